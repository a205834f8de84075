//! `kache inputs`: what the latest compile of a crate and the latest run of its build script read, and which of it was declared.
//! Reads the journal and the kept evidence; knows the names of inputs, not how they come to light.

use std::collections::BTreeSet;
use std::path::Path;

use clap_complete::ArgValueCompleter;
use kache_core::depinfo::DepInfo;
use kache_core::entry::{Entry, Evidence, Text};
use kache_core::event::SCRIPT_RUN;
use kache_core::key::{Field, field};
use kache_core::paths::Root;
use kache_core::record::{Input, Sight};
use kache_store::Store;
use serde::Serialize;
use serde_json::json;

use super::{completions, is_named, open_store, settings, unknown_crate};
use crate::error::{Outcome, Status};
use crate::ui::{Style, Ui};

/// Longest stored text that is read, in bytes.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// List what the latest compile of a crate and its build script read
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache inputs my-app              files, programs and variables, by kind
  kache inputs my-app --json       the same for scripts

An asterisk marks what was observed and not declared: the compiler didn't report it, or the script didn't ask Cargo to \
watch it. `{ws}` is the workspace, \
`{target}` the target directory, `{home}` Cargo's home, `{sysroot}` the compiler's directory.")]
pub struct Args {
    /// Name of a crate or package
    #[arg(value_name = "CRATE", value_parser = super::crate_name, add = ArgValueCompleter::new(completions::crates))]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Shown {
    kind: &'static str,
    name: String,
    declared: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_by: Option<String>,
}

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
        let is_run = event.kind == SCRIPT_RUN;
        let package = || Field::value_of(&evidence.unit_fields, field::WORKING_DIRECTORY);
        let declared = match package().filter(|_| is_run) {
            Some(package) => declared_by_script(store, &entry, package),
            None => declared(store, &entry),
        };
        let inputs = inputs(&evidence, &declared);
        Some(Unit { kind: event.kind, mode: event.mode, sight: evidence.record.observed, inputs })
    });
    units.collect()
}

fn stored(store: &Store, text: &Text) -> Option<String> {
    match text {
        Text::Inline(text) => Some(text.clone()),
        Text::Blob(digest) => {
            let bytes = store.read_blob(digest, TEXT_BYTES_MAX).ok().flatten();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok())
        }
    }
}

/// The name that an input has for a path in a stored text; relative ones are below `dir`.
fn name_of(path: &str, dir: &str) -> String {
    match Root::ALL.into_iter().find(|root| path.starts_with(root.text_token())) {
        Some(root) => path.replacen(root.text_token(), root.name_prefix(), 1),
        None if path.starts_with('/') => path.to_owned(),
        None => format!("{dir}/{path}"),
    }
}

fn declared(store: &Store, entry: &Entry) -> Declared {
    let info = stored(store, &entry.dep_info).and_then(|text| DepInfo::parse(&text).ok());
    let Some(info) = info else { return Declared::default() };
    // Cargo compiles members in the workspace's directory.
    let paths = info.inputs().iter().map(|path| name_of(path, Root::Workspace.name_prefix())).collect();
    Declared { paths, variables: info.env().map(|(name, _)| name.to_owned()).collect() }
}

/// What a build script asked Cargo to watch; its package where it asked for nothing.
fn declared_by_script(store: &Store, entry: &Entry, package: &str) -> Declared {
    let mut declared = Declared::default();
    for line in stored(store, &entry.stdout).unwrap_or_default().lines() {
        let directive = line.strip_prefix("cargo::").or_else(|| line.strip_prefix("cargo:"));
        match directive.and_then(|directive| directive.split_once('=')) {
            Some(("rerun-if-changed", path)) => {
                declared.paths.insert(name_of(path, package));
            }
            Some(("rerun-if-env-changed", name)) => {
                declared.variables.insert(name.to_owned());
            }
            _ => {}
        }
    }
    if declared.paths.is_empty() && declared.variables.is_empty() {
        declared.paths.insert(package.to_owned());
    }
    declared
}

/// Paths, with what is below them, and variables.
#[derive(Default)]
struct Declared {
    paths: BTreeSet<String>,
    variables: BTreeSet<String>,
}

impl Declared {
    fn has(&self, input: &Input) -> bool {
        match input {
            Input::Env(name) => self.variables.contains(name),
            Input::File(name) | Input::Dir(name) | Input::Link(name) | Input::Probe(name) => {
                Path::new(name).ancestors().any(|path| path.to_str().is_some_and(|p| self.paths.contains(p)))
            }
            Input::Program(_) | Input::MacroEnv(_) | Input::PortableMacroEnv(_) => false,
        }
    }
}

fn inputs(evidence: &Evidence, declared: &Declared) -> Vec<Shown> {
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
        Shown { kind, name: name.clone(), declared: declared.has(input), read_by }
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
