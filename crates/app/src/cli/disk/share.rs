//! `kache disk --share`: has target directories that are there already share bytes with the store, and tells how many. What
//! is shared and how is decided in `kache_engine::share`. The form of `--json` is in `docs/schema/share-v1.json`.

use std::collections::BTreeMap;

use kache_core::config::Settings;
use kache_core::quantity::format_size;
use kache_engine::share::{Left, Plan, Stock, Sum};
use kache_store::Store;
use serde_json::{Value, json};

use super::Args;
use crate::cli::census::find::{self, Found};
use crate::cli::census::{self, Scope};
use crate::error::{CliError, Outcome, Status};
use crate::ui::{Align, Style, Table, Ui};

/// What came of one target directory.
struct Row {
    found: Found,
    /// Why nothing was done.
    why: Option<String>,
    cloned: Sum,
    linked: Sum,
    left: BTreeMap<Left, Sum>,
}

impl Row {
    fn shared_bytes(&self) -> u64 {
        self.cloned.bytes + self.linked.bytes
    }
}

pub fn run(args: &Args, scope: Scope<'_>, settings: &Settings, ui: &Ui) -> Outcome {
    let store = settings.cache_dir().ok().and_then(|dir| Store::open_existing(dir).ok());
    let mut rows = Vec::new();
    if let Some(store) = &store {
        let stock = Stock::of(store)?;
        for found in census::find(scope, &mut store.served(), ui) {
            ui.progress(&format!("comparing {}", found.path.display()));
            match row(store, &stock, found, args.dry_run) {
                Ok(row) => rows.push(row),
                Err(error) => ui.warn(&error.to_string()),
            }
        }
        ui.progress("");
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.shared_bytes()));
    ui.print_as(
        args.json,
        || format!("{:#}\n", json(&rows, args.dry_run)),
        || text(&rows, args.dry_run, ui),
    )?;
    Ok(Status::Done)
}

fn row(store: &Store, stock: &Stock, found: Found, is_dry: bool) -> Result<Row, CliError> {
    // No Cargo waits while contents are read; with the locks held they are known.
    let mut plan = Plan::of(store, stock, &found.path)?;
    let mut sums = plan.sums();
    let mut why = plan.is_apart.then(|| "on another file system than the store".to_owned());
    if !is_dry && sums != <[Sum; 2]>::default() {
        let locks = find::lock(&found.path).map_err(|error| CliError::file("lock", &found.path, &error))?;
        match locks {
            None => (sums, why) = (Default::default(), Some("a build is running in it".to_owned())),
            Some(_locks) => {
                plan = Plan::of(store, stock, &found.path)?;
                sums = plan.apply(store)?;
            }
        }
    }
    let [cloned, linked] = sums;
    Ok(Row { found, why, cloned, linked, left: plan.left })
}

fn text(rows: &[Row], is_dry: bool, ui: &Ui) -> String {
    if rows.is_empty() {
        return "kache has served no target directory that is still there.\n".to_owned();
    }
    let shared = if is_dry { "would be shared" } else { "shared" };
    let mut table = Table::new(&[
        (shared, Align::Right),
        ("clones", Align::Right),
        ("links", Align::Right),
        ("left", Align::Right),
        ("target directory", Align::Left),
    ]);
    for row in rows {
        let left: u64 = row.left.values().map(|sum| sum.bytes).sum();
        let words = row.left.keys().map(|left| match left {
            Left::Private => "files that are changed in place",
            Left::Times => "files whose times Cargo compares",
            Left::Names => "files with names elsewhere",
        });
        let notes: Vec<&str> = row.why.as_deref().into_iter().chain(words).collect();
        let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
        table.row([
            format_size(row.shared_bytes()),
            row.cloned.files.to_string(),
            row.linked.files.to_string(),
            format_size(left),
            format!("{}{notes}", row.found.path.display()),
        ]);
    }
    let all: u64 = rows.iter().map(Row::shared_bytes).sum();
    let line = match is_dry {
        true => format!("{} would be shared with the store.", format_size(all)),
        false => format!("{} are shared with the store now.", format_size(all)),
    };
    format!("{}{}\n", table.render(ui), ui.out(Style::Bold, &line))
}

fn json(rows: &[Row], is_dry: bool) -> Value {
    let sum = |sum: &Sum| json!({ "files": sum.files, "bytes": sum.bytes });
    let one = |row: &Row| {
        let left = row.left.iter().map(|(left, files)| (left.word().to_owned(), sum(files)));
        json!({
            "path": row.found.path,
            "why": row.why,
            "cloned": sum(&row.cloned),
            "linked": sum(&row.linked),
            "left": left.collect::<serde_json::Map<_, _>>(),
        })
    };
    json!({
        "version": 1,
        "dry_run": is_dry,
        "targets": rows.iter().map(one).collect::<Vec<_>>(),
        "shared_bytes": rows.iter().map(Row::shared_bytes).sum::<u64>(),
    })
}
