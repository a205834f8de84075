//! `kache inputs`: what the latest compile of a crate read, and which of it the compiler reported. Reads the journal and the kept
//! evidence; knows the names of inputs, not how they come to light.

use std::collections::BTreeSet;

use clap_complete::ArgValueCompleter;
use kache_core::depinfo::DepInfo;
use kache_core::entry::{Entry, Evidence, Text};
use kache_core::paths::Root;
use kache_core::record::{Input, Sight};
use kache_store::Store;
use serde::Serialize;
use serde_json::json;

use super::{completions, is_named, open_store, settings, unknown_crate};
use crate::error::{Outcome, Status};
use crate::ui::{Style, Ui};

/// Longest stored dep-info that is read, in bytes.
const DEP_INFO_BYTES_MAX: u64 = 16 << 20;

/// List what the latest compile of a crate read
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache inputs my-app              files, programs and variables, by kind
  kache inputs my-app --json       the same for scripts

An asterisk marks what was observed and not declared: the compiler didn't report it. `{ws}` is the workspace, \
`{target}` the target directory, `{home}` Cargo's home, `{sysroot}` the compiler's directory.")]
pub struct Args {
    /// Name of a crate or package
    #[arg(value_name = "CRATE", value_parser = super::crate_name, add = ArgValueCompleter::new(completions::crates))]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Shown {
    kind: &'static str,
    name: String,
    declared: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_by: Option<String>,
}

/// One compile and its inputs.
struct Unit {
    kind: String,
    mode: String,
    sight: Sight,
    inputs: Vec<Shown>,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let unknown = |store| unknown_crate(store, &args.name, "the store has no result of");
    let Some(store) = open_store(&settings, ui)? else { return Err(unknown(None)) };
    let units = units(&store, &args.name);
    if units.is_empty() {
        return Err(unknown(Some(&store)));
    }
    ui.print_as(
        args.json,
        || {
            let units = units.iter().map(|unit| {
                json!({ "kind": unit.kind, "mode": unit.mode, "observed": unit.sight, "inputs": unit.inputs })
            });
            let units: Vec<_> = units.collect();
            format!("{:#}\n", json!({ "version": 1, "crate": args.name, "units": units }))
        },
        || units.iter().map(|unit| text(unit, ui)).collect::<Vec<_>>().join("\n"),
    )?;
    Ok(Status::Done)
}

/// The latest result of each kind of compile of a crate, latest first.
fn units(store: &Store, name: &str) -> Vec<Unit> {
    let index = store.index_journal(|event| {
        let is_wanted = event.entry_key.is_some() && is_named(&event.crate_name, &event.package, name);
        is_wanted.then_some(())
    });
    let mut seen = BTreeSet::new();
    let events = index.found.iter().rev().filter_map(|(_, place)| index.event(*place));
    let latest = events
        .filter(|event| seen.insert((event.crate_name.clone(), event.kind.clone(), event.mode.clone())));
    let units = latest.filter_map(|event| {
        let key = event.entry_key?;
        let evidence = store.evidence(&key).ok()??;
        let entry = store.entry(&key).ok()??;
        let inputs = inputs(&evidence, &declared(store, &entry));
        Some(Unit { kind: event.kind, mode: event.mode, sight: evidence.record.observed, inputs })
    });
    units.collect()
}

/// What the compiler reported, by the names that inputs have.
fn declared(store: &Store, entry: &Entry) -> BTreeSet<Input> {
    let text = match &entry.dep_info {
        Text::Inline(text) => Some(text.clone()),
        Text::Blob(digest) => {
            let bytes = store.read_blob(digest, DEP_INFO_BYTES_MAX).ok().flatten();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok())
        }
    };
    let Some(info) = text.and_then(|text| DepInfo::parse(&text).ok()) else { return BTreeSet::new() };
    let name_of = |path: &String| {
        let token = Root::ALL.into_iter().find(|root| path.starts_with(root.text_token()));
        match token {
            Some(root) => path.replacen(root.text_token(), root.name_prefix(), 1),
            None if path.starts_with('/') => path.clone(),
            // Cargo compiles members in the workspace's directory.
            None => format!("{}/{path}", Root::Workspace.name_prefix()),
        }
    };
    let files = info.inputs().iter().map(|path| Input::File(name_of(path)));
    files.chain(info.env().map(|(name, _)| Input::Env(name.to_owned()))).collect()
}

fn inputs(evidence: &Evidence, declared: &BTreeSet<Input>) -> Vec<Shown> {
    let is_absent = |input: &Input| {
        let field = kache_core::entry_key::input_field(input);
        evidence.entry_fields.iter().any(|known| known.name == field && known.value == "absent")
    };
    let shown = evidence.record.inputs.iter().map(|input| {
        let (kind, name) = match input {
            Input::File(name) if is_absent(input) => ("absent file", name),
            Input::File(name) => ("file", name),
            Input::Dir(name) => ("directory", name),
            Input::Link(name) => ("link", name),
            Input::Probe(name) => ("presence", name),
            Input::Program(name) => ("program on PATH", name),
            Input::Env(name) => ("variable", name),
            Input::MacroEnv(name) | Input::PortableMacroEnv(name) => ("variables named in", name),
        };
        let read_by = matches!(input, Input::Env(_)).then(|| evidence.readers.get(name).cloned()).flatten();
        Shown { kind, name: name.clone(), declared: declared.contains(input), read_by }
    });
    let mut shown: Vec<Shown> = shown.collect();
    shown.sort();
    shown
}

fn text(unit: &Unit, ui: &Ui) -> String {
    let how = match unit.sight {
        Sight::Variables => "files and variables were observed",
        Sight::Files => "files were observed",
        Sight::Reported => "not observed: only what the compiler reported",
    };
    let mut text = format!("{}\n", ui.out(Style::Bold, &format!("{} {} ({how})", unit.kind, unit.mode)));
    let mut kind = "";
    for input in &unit.inputs {
        if input.kind != kind {
            kind = input.kind;
            let count = unit.inputs.iter().filter(|other| other.kind == kind).count();
            text.push_str(&format!("  {kind} ({count})\n"));
        }
        let mark = if input.declared { " " } else { "*" };
        let by = input.read_by.as_ref().map(|program| format!(", read by {program}")).unwrap_or_default();
        text.push_str(&format!(
            "    {} {}{}\n",
            ui.out(Style::Warn, mark),
            input.name,
            ui.out(Style::Dim, &by)
        ));
    }
    text
}
