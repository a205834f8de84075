//! `kache list`: the entries of the store, one line each.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use clap::ValueEnum;
use clap_complete::ArgValueCompleter;
use kache_core::entry::{Entry, OutputKind};
use kache_core::event::Outcome as EventOutcome;
use kache_core::key::EntryKey;
use kache_core::quantity::{format_duration, format_size};
use kache_store::Store;
use serde_json::json;

use super::{completions, open_store, settings, unknown_crate};
use crate::error::{CliError, Outcome, Status};
use crate::ui::{Align, Table, Ui};

/// List what the store holds
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache list                   everything, by name
  kache list serde             the entries of one crate or package
  kache list --sort size       the largest first
  kache list --json | jq -r '.entries[].key'")]
pub struct Args {
    /// Name of a crate or package
    #[arg(value_name = "CRATE", value_parser = super::crate_name, add = ArgValueCompleter::new(completions::crates))]
    name: Option<String>,
    /// What to sort by
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An order of entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Name, then version
    #[default]
    Name,
    /// Largest first
    Size,
    /// Most often used first
    Hits,
    /// Newest first
    Age,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    key: EntryKey,
    name: String,
    crate_name: String,
    package: String,
    version: String,
    kind: &'static str,
    target: String,
    bytes: u64,
    hits: u64,
    compile_ms: u64,
    created_s: u64,
    used_s: u64,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let store = open_store(&settings, ui)?;
    let mut rows = store.as_ref().map_or(Ok(Vec::new()), |store| rows(store, args.name.as_deref()))?;
    if let (Some(name), true) = (&args.name, rows.is_empty()) {
        return Err(unknown_crate(store.as_ref(), name, "the store has no entry of"));
    }
    sort(&mut rows, args.sort);
    super::warn_of_denied(&store.as_ref().map(Store::denied).unwrap_or_default(), ui);
    if args.json {
        ui.print_json(&json(&rows))?;
        return Ok(Status::Done);
    }
    match (rows.is_empty(), store.is_some()) {
        (false, _) => ui.print(&text(&rows, ui, super::now_ms() / 1000))?,
        (true, true) => ui.status("The store is empty."),
        (true, false) => {}
    }
    Ok(Status::Done)
}

fn rows(store: &Store, name: Option<&str>) -> Result<Vec<Row>, CliError> {
    let mut hits: HashMap<EntryKey, u64> = HashMap::new();
    let is_hit = |outcome| outcome == EventOutcome::Hit;
    for (key, _) in store.index_journal(|event| event.entry_key.filter(|_| is_hit(event.outcome))).found {
        *hits.entry(key).or_default() += 1;
    }
    // An entry that can't be read is none; `kache doctor --verify` tells about it.
    let read = store.entries()?.filter_map(|stat| Some((stat, store.peek_entry(&stat.key).ok()??)));
    let rows = read
        .filter(|(_, entry)| name.is_none_or(|name| super::is_named(&entry.crate_name, &entry.package, name)))
        .map(|(stat, entry)| Row {
            key: stat.key,
            kind: kind(&entry),
            bytes: entry.size_bytes(),
            hits: hits.get(&stat.key).copied().unwrap_or_default(),
            compile_ms: entry.compile_ms,
            created_s: entry.created_s,
            used_s: u64::try_from(stat.used.seconds()).unwrap_or_default(),
            name: label(kind(&entry), &entry.package, &entry.crate_name).to_owned(),
            package: entry.package.clone(),
            crate_name: entry.crate_name,
            version: entry.package_version,
            target: entry.target,
        });
    Ok(rows.collect())
}

/// What an entry goes by: for a build script, whose crates all have one name, that of its package.
fn label<'a>(kind: &str, package: &'a str, crate_name: &'a str) -> &'a str {
    if kind == "build-script" && !package.is_empty() { package } else { crate_name }
}

/// What the entry is, judged by its outputs.
fn kind(entry: &Entry) -> &'static str {
    let has = |kind| entry.outputs.iter().any(|output| output.kind == kind);
    match () {
        () if has(OutputKind::ProcMacro) => "proc-macro",
        () if has(OutputKind::BuildScript) => "build-script",
        () if has(OutputKind::Linked) => "linked",
        () if has(OutputKind::Rlib) => "lib",
        () => "check",
    }
}

fn sort(rows: &mut [Row], sort: Sort) {
    rows.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.version.cmp(&b.version)).then(a.key.cmp(&b.key)));
    match sort {
        Sort::Name => {}
        Sort::Size => rows.sort_by_key(|row| Reverse(row.bytes)),
        Sort::Hits => rows.sort_by_key(|row| Reverse(row.hits)),
        Sort::Age => rows.sort_by_key(|row| Reverse(row.created_s)),
    }
}

fn text(rows: &[Row], ui: &Ui, now_s: u64) -> String {
    let mut table = Table::new(&[
        ("crate", Align::Left),
        ("version", Align::Left),
        ("kind", Align::Left),
        ("size", Align::Right),
        ("hits", Align::Right),
        ("compiled in", Align::Right),
        ("age", Align::Right),
        ("used", Align::Right),
        ("key", Align::Left),
    ]);
    let ago = |then_s: u64| format_duration(Duration::from_secs(now_s.saturating_sub(then_s)));
    for row in rows {
        table.row([
            row.name.clone(),
            row.version.clone(),
            row.kind.to_owned(),
            format_size(row.bytes),
            row.hits.to_string(),
            format_duration(Duration::from_millis(row.compile_ms)),
            ago(row.created_s),
            ago(row.used_s),
            row.key.0.short(),
        ]);
    }
    table.render(ui)
}

fn json(rows: &[Row]) -> String {
    let entry = |row: &Row| {
        json!({
            "key": row.key, "crate": row.crate_name, "package": row.package, "version": row.version, "kind": row.kind, "target": row.target,
            "size_bytes": row.bytes, "hits": row.hits, "compile_ms": row.compile_ms,
            "created_s": row.created_s, "used_s": row.used_s,
        })
    };
    format!("{:#}\n", json!({ "version": 1, "entries": rows.iter().map(entry).collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_core::digest::Digest;

    fn row(name: &str, bytes: u64, hits: u64, created_s: u64) -> Row {
        let key = EntryKey(Digest::of(name.as_bytes()));
        let (version, target) = ("1.0.0".to_owned(), String::new());
        let [name, crate_name, package] = [name; 3].map(str::to_owned);
        Row {
            key,
            name,
            crate_name,
            package,
            version,
            kind: "lib",
            target,
            bytes,
            hits,
            compile_ms: 1500,
            created_s,
            used_s: created_s,
        }
    }

    #[test]
    fn orders() {
        let mut rows = vec![row("b", 10, 3, 100), row("a", 20, 1, 300), row("c", 5, 2, 200)];
        for (by, want) in [(Sort::Name, "abc"), (Sort::Size, "abc"), (Sort::Hits, "bca"), (Sort::Age, "acb")]
        {
            sort(&mut rows, by);
            assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<String>(), want, "{by:?}");
        }
    }

    #[test]
    fn build_scripts_go_by_their_package() {
        assert_eq!(label("build-script", "libc", "build_script_build"), "libc");
        assert_eq!(label("build-script", "", "build_script_main"), "build_script_main");
        assert_eq!(label("lib", "my-app", "my_app"), "my_app");
    }

    #[test]
    fn the_text_is_a_table() {
        let text = text(&[row("serde", 2 << 20, 7, 3600)], &Ui::plain(), 7200);
        assert!(
            text.starts_with("crate  version  kind      size  hits  compiled in     age    used  key\n"),
            "{text}"
        );
        assert!(
            text.contains("serde  1.0.0    lib   2.00 MiB     7         1.5s  1h 00m  1h 00m  "),
            "{text}"
        );
    }
}
