//! `kache prove`: works on pending proofs that results don't depend on their place. The wrapper starts it in the background
//! after a build (`--after`); people and CI jobs call it to have them done.

use std::fmt::Write as _;
use std::time::Duration;

use kache_engine::proof::{self, Proven};

use super::{open_store, settings};
use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// How long another process that works on proofs is waited for.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Compile once more, elsewhere, what may depend on the path of its checkout
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache prove          do now what waits for the time after a build
  kache stats          says how many proofs are pending, made and failed

A crate whose macros or sources look at CARGO_MANIFEST_DIR or OUT_DIR may keep something of the path, its length for \
instance. kache compiles such a crate a second time in a directory that is unlike the first one. Is the result the same, \
other checkouts and machines are served. The wrapper does this by itself after a build, at idle priority; in a CI job that \
ends with the build, call this before the store is saved. `cache.prove = false` (KACHE_PROVE) turns it off.")]
pub struct Args {
    /// Wait for this Cargo to end, then work in the background: for the wrapper
    #[arg(long, hide = true, value_name = "ID-START", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    after: Option<String>,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    if let Some(session) = &args.after {
        let (settings, _) = crate::settings::load(None)?;
        let store = kache_store::Store::open_existing(settings.cache_dir()?)?;
        proof::prove_after(&store, &settings, session);
        return Ok(Status::Done);
    }
    let settings = settings(ui)?;
    let Some(store) = open_store(&settings, ui)? else { return Ok(Status::Done) };
    let proven = proof::prove(&store, &settings, PATIENCE).ok_or_else(|| {
        CliError::failure(format!(
            "another process has worked on proofs in {} for an hour",
            store.root().display()
        ))
        .hint("`ps aux | grep 'kache prove'` finds it")
    })?;
    ui.print(&text(&proven))?;
    Ok(Status::Done)
}

fn text(proven: &Proven) -> String {
    let mut text = String::new();
    for name in &proven.independent {
        let _ = writeln!(text, "{name}: the same everywhere; other checkouts are served");
    }
    for (name, why) in &proven.dependent {
        let _ = writeln!(text, "{name}: depends on its place: {why}");
    }
    for (name, why) in &proven.unshown {
        let _ = writeln!(text, "{name}: could not be shown: {why}");
    }
    if text.is_empty() { "No proof is pending.\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crate_is_named_with_what_was_shown() {
        assert_eq!(text(&Proven::default()), "No proof is pending.\n");
        let proven = Proven {
            independent: vec!["a".to_owned()],
            dependent: vec![("b".to_owned(), "libb.rlib: other content".to_owned())],
            unshown: vec![("c".to_owned(), "the compile failed".to_owned())],
        };
        let lines: Vec<String> = text(&proven).lines().map(str::to_owned).collect();
        assert!(lines[0].starts_with("a: the same") && lines[1].contains("libb.rlib"), "{lines:?}");
        assert!(lines[2].contains("the compile failed"), "{lines:?}");
    }
}
