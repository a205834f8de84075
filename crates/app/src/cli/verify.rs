//! `kache verify`: builds a project in a target directory of its own, lets the compiler do what the cache could serve,
//! and sums up whether both agree. The comparison happens in the wrapper; here Cargo is started and the journal read.

mod attest;
mod origin;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::builder::NonEmptyStringValueParser;
use kache_core::config::env;
use kache_core::event::{Event, Outcome as EventOutcome};
use kache_core::verify::Sample;
use kache_service::setup::block_on;
use kache_store::Store;
use serde_json::json;

use attest::Attestation;

use super::{current_dir, settings};
use crate::error::{CliError, Outcome, Status};
use crate::ui::{Style, Ui};

/// Compile what the cache would serve, and compare
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache verify                          `cargo build`, every hit compiled and compared
  kache verify --sample 10%             one hit in ten, others each time
  kache verify -- test --no-run         another Cargo command
  KACHE_VERIFY=1 cargo build            the same in an ordinary build
  kache verify --attest                 sign what others have published, where this machine makes the same
  kache verify --origin                 list what came from remotes without a trusted signature
  kache verify --origin --drop          remove it

Builds into a new directory beside the target directory, and removes it afterwards. Where the compiler makes something \
else than the store has, the entry is dropped and the difference is shown. Exit code 3 when there was one.

With `--attest` everything is compiled, and each result compared with the one in the remote. Where they are the same, this
machine's signature is added beside it, which `cache.remote.witnesses` counts. Exit code 3 when one differs.

With `--origin` nothing is built. Trusted is what this machine made, and what came with the signature of one of \
`cache.remote.trusted_keys` or of the own key. Exit code 3 when something else is listed.")]
pub struct Args {
    /// Share of the hits that are verified
    #[arg(long, value_name = "N%", default_value = "100%", value_parser = sample)]
    sample: Sample,
    /// Sign the results in the remote that are the same as the ones made here
    #[arg(long, conflicts_with_all = ["sample", "origin"])]
    attest: bool,
    /// List what the store has from places that the settings don't trust, in place of a build
    #[arg(long, conflicts_with_all = ["sample", "cargo"])]
    origin: bool,
    /// Remove it from the store
    #[arg(long, requires = "origin")]
    drop: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Cargo's arguments
    #[arg(last = true, value_name = "CARGO-ARGS", default_value = "build", value_parser = NonEmptyStringValueParser::new())]
    cargo: Vec<String>,
}

fn sample(text: &str) -> Result<Sample, String> {
    Sample::parse(text).ok_or_else(|| format!("{text:?} is not a share (write 10%)"))
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let store = Arc::new(Store::open(settings.cache_dir()?)?);
    if args.attest {
        // Before anything is compiled in vain.
        block_on(attest::open(&settings, &store))??;
    }
    if args.origin {
        return origin::run(&settings, &store, args.drop, args.json, ui);
    }
    let scratch = Scratch::beside(&target_dir(&current_dir()?)?)?;
    let session = build(args, &scratch.0)?;
    let events: Vec<Event> =
        store.events(None).filter(|event| event.session.starts_with(&session.prefix)).collect();
    let attestation = if args.attest { Some(attest::run(&settings, &store, &events, ui)?) } else { None };
    let findings = Findings::of(events.into_iter());
    let attested = attestation.as_ref();
    ui.print_as(
        args.json,
        || findings.json(attested.map(Attestation::json)),
        || findings.text(ui) + &attested.map(|attested| attested.text(ui)).unwrap_or_default(),
    )?;
    if !session.succeeded {
        return Err(CliError::failure("cargo failed, so not everything was verified"));
    }
    let is_same =
        findings.different.is_empty() && attested.is_none_or(|attested| attested.different.is_empty());
    Ok(if is_same { Status::Done } else { Status::Found })
}

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    /// A directory with the same parent as the project's own target directory, so that paths relative to it are alike.
    fn beside(target: &Path) -> Result<Self, CliError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!("{name}.kache-verify-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| CliError::file("create", &path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed now is a directory like any other that `kache clean` finds.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Session {
    /// What its events' sessions begin with.
    prefix: String,
    succeeded: bool,
}

fn build(args: &Args, target_dir: &Path) -> Result<Session, CliError> {
    let me = std::env::current_exe()
        .map_err(|error| CliError::failure("this program's own path is unknown").because(&error))?;
    let mut child = cargo()
        .args(&args.cargo)
        .env(env::RUSTC_WRAPPER, me)
        .env(env::CARGO_TARGET_DIR, target_dir)
        .env(env::KACHE_VERIFY, args.sample.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| CliError::failure("can't start cargo").because(&error))?;
    let prefix = format!("{}-", child.id());
    let status = child.wait().map_err(|error| CliError::failure("can't wait for cargo").because(&error))?;
    Ok(Session { prefix, succeeded: status.success() })
}

fn cargo() -> Command {
    Command::new(std::env::var_os(env::CARGO).unwrap_or_else(|| "cargo".into()))
}

/// Where Cargo would build the project in a directory.
fn target_dir(cwd: &Path) -> Result<PathBuf, CliError> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(cwd)
        .output()
        .map_err(|error| CliError::failure("can't start cargo").because(&error))?;
    let metadata: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
    let dir = metadata.and_then(|metadata| metadata["target_directory"].as_str().map(PathBuf::from));
    dir.ok_or_else(|| {
        CliError::usage(format!("there is no project that Cargo can read in {}", cwd.display()))
            .hint("run it in a directory with a `Cargo.toml`; `cargo metadata` says what is wrong with it")
    })
}

#[derive(Default)]
struct Findings {
    same: u64,
    different: Vec<Event>,
    /// Compiled for verification, and something kept the results from being compared.
    undecided: Vec<Event>,
    /// Served without verification: not chosen.
    served: u64,
    /// Compiled because there was nothing to compare with, by reason.
    others: BTreeMap<String, u64>,
}

impl Findings {
    fn of(events: impl Iterator<Item = Event>) -> Self {
        let mut findings = Self::default();
        for event in events {
            let is_compared =
                event.detail.as_deref().is_some_and(|detail| detail.ends_with("it is the same"));
            match (event.outcome, event.reason.as_deref()) {
                (_, Some("verify")) if is_compared => findings.same += 1,
                (_, Some("verify")) => findings.undecided.push(event),
                (_, Some("verify-mismatch")) => findings.different.push(event),
                (EventOutcome::Hit, _) => findings.served += 1,
                (_, reason) => {
                    *findings.others.entry(reason.unwrap_or("unknown").to_owned()).or_default() += 1;
                }
            }
        }
        findings
    }

    fn text(&self, ui: &Ui) -> String {
        let mut text = String::new();
        let compared = self.same + self.different.len() as u64;
        let verdict = match (compared, self.different.len()) {
            (0, _) => {
                ui.out(Style::Warn, "There was nothing to verify: the store has none of these compiles.")
            }
            (_, 0) => {
                ui.out(Style::Good, &format!("{compared} results were compiled again; all are the same."))
            }
            (_, n) => ui.out(
                Style::Bad,
                &format!("{compared} results were compiled again; {n} differ and are dropped."),
            ),
        };
        let _ = writeln!(text, "{verdict}");
        for event in self.different.iter().chain(&self.undecided) {
            let detail = event.detail.as_deref().unwrap_or_default();
            let _ =
                writeln!(text, "  {} {} ({}): {detail}", event.crate_name, event.package_version, event.kind);
        }
        if self.served > 0 {
            let _ = writeln!(
                text,
                "Served without a compile, because they weren't chosen or were compiled incrementally: {}.",
                self.served
            );
        }
        let others: Vec<String> = self.others.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        if !others.is_empty() {
            let _ = writeln!(text, "Compiled without an entry to compare with: {}.", others.join(", "));
        }
        text
    }

    fn json(&self, attested: Option<serde_json::Value>) -> String {
        let shown = |events: &[Event]| -> Vec<_> {
            let one = |event: &Event| {
                json!({
                    "crate": event.crate_name, "version": event.package_version, "kind": event.kind,
                    "key": event.entry_key, "detail": event.detail,
                })
            };
            events.iter().map(one).collect()
        };
        let value = json!({
            "version": 1,
            "same": self.same,
            "different": shown(&self.different),
            "undecided": shown(&self.undecided),
            "served": self.served,
            "without_entry": self.others,
            "attested": attested,
        });
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(outcome: EventOutcome, reason: &str, detail: &str) -> Event {
        let mut event = Event::new("demo", outcome);
        event.reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
        event.detail = Some(detail.to_owned());
        event.kind = "lib".into();
        event.package_version = "1.0.0".into();
        event
    }

    #[test]
    fn the_sum_tells_the_same_from_the_different() {
        let same = kache_core::reason::Miss::Verify("it is the same".into());
        let events = [
            event(EventOutcome::Dup, same.code(), &same.to_string()),
            event(EventOutcome::Miss, "verify-mismatch", "a.rlib: other content"),
            event(EventOutcome::Hit, "", ""),
            event(EventOutcome::Miss, "unit-unknown", ""),
        ];
        let findings = Findings::of(events.into_iter());
        let expected = "2 results were compiled again; 1 differ and are dropped.\n  demo 1.0.0 (lib): a.rlib: other \
                        content\nServed without a compile, because they weren't chosen or were compiled incrementally: 1.\nCompiled without an entry to \
                        compare with: 1 unit-unknown.\n";
        assert_eq!(findings.text(&Ui::plain()), expected);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/verify-v1.json");
        let schema = serde_json::from_str(&std::fs::read_to_string(path).expect("schema")).expect("JSON");
        let value = serde_json::from_str(&findings.json(Some(Attestation::default().json()))).expect("JSON");
        assert_eq!(crate::schema::violations(&schema, &value), [""; 0], "{value:#}");
        assert!(Findings::default().text(&Ui::plain()).starts_with("There was nothing to verify"));
    }
}
