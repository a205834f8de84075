//! `kache doctor`: looks at everything that has to be right for the cache to work, and says what isn't and what to
//! do about it. The checks are in `setup` (settings, Cargo), `seeding`, `proofs`, `disk` (store, file systems), `background` and `remote`.

mod background;
mod disk;
mod fix;
mod proofs;
mod remote;
mod seeding;
mod setup;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::current_dir;
use crate::error::{Outcome, Status};
use crate::ui::{Style, Ui};
use fix::Purging;

/// Check the set-up, the file systems and the store
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache doctor                 set-up, conflicts, file systems
  kache doctor ~/src/project   try the file system of that directory
  kache doctor --verify        also check that every entry is complete
  kache doctor --checksums     also read every blob back
  kache doctor --repair        check, and drop what is broken
  kache doctor --fix           make kache the wrapper, then check
  kache doctor --fix --purge-sccache

Exit code 3 when something is wrong. Warnings alone don't count.")]
pub struct Args {
    /// Directory whose file system target directories will be on; default is the current one
    dir: Option<PathBuf>,
    /// Check that every entry of the store is complete
    #[arg(long)]
    verify: bool,
    /// Read every blob back and compare its digest
    #[arg(long)]
    checksums: bool,
    /// Drop what is broken; the next compile brings it back
    #[arg(long)]
    repair: bool,
    /// Set what `kache init` sets before checking; moves from sccache
    #[arg(long)]
    fix: bool,
    /// Also stop sccache's server and remove what it has stored
    #[arg(long, requires = "fix")]
    purge_sccache: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Works, but not as well as it could.
    Warning,
    /// Keeps the cache from working.
    Bad,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    section: &'static str,
    verdict: Verdict,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// The checks made so far.
#[derive(Default)]
struct Findings {
    section: &'static str,
    checks: Vec<Check>,
}

impl Findings {
    fn add(&mut self, verdict: Verdict, what: impl Into<String>) {
        self.checks.push(Check { section: self.section, verdict, what: what.into(), hint: None });
    }

    fn add_with_hint(&mut self, verdict: Verdict, what: impl Into<String>, hint: impl Into<String>) {
        self.checks.push(Check {
            section: self.section,
            verdict,
            what: what.into(),
            hint: Some(hint.into()),
        });
    }

    fn worst(&self) -> Verdict {
        let is = |verdict| self.checks.iter().any(|check| check.verdict == verdict);
        if is(Verdict::Bad) { Verdict::Bad } else { Verdict::Good }
    }

    fn text(&self, ui: &Ui) -> String {
        let mut text = String::new();
        let mut section = "";
        for check in &self.checks {
            if check.section != section {
                section = check.section;
                text.push_str(&format!("{}\n", ui.out(Style::Bold, section)));
            }
            let mark = match check.verdict {
                Verdict::Good => ui.out(Style::Good, "ok  "),
                Verdict::Note => "    ".to_owned(),
                Verdict::Warning => ui.out(Style::Warn, "warn"),
                Verdict::Bad => ui.out(Style::Bad, "BAD "),
            };
            text.push_str(&format!("  {mark} {}\n", check.what));
            if let Some(hint) = &check.hint {
                text.push_str(&format!("       {} {hint}\n", ui.out(Style::Accent, "hint:")));
            }
        }
        text
    }
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let cwd = current_dir()?;
    let dir = args.dir.as_ref().map_or_else(|| cwd.clone(), |dir| cwd.join(dir));
    if args.fix {
        fix::fix(if args.purge_sccache { Purging::Remove } else { Purging::Keep }, ui)?;
    }
    let mut findings = Findings::default();
    setup::program(&mut findings);
    let settings = setup::settings(&cwd, &mut findings);
    let cargo_version = setup::cargo(&cwd, &mut findings);
    if let Some(settings) = &settings {
        setup::fallback(settings, &mut findings);
        if let Some(store) = disk::store(settings, &mut findings) {
            seeding::check(settings, &store, cargo_version.as_deref(), &mut findings);
            proofs::check(settings, &store, &mut findings);
            setup::observation(&store, settings, &mut findings);
            background::daemon(&store, settings, &mut findings);
            disk::abilities(&store, &dir, &mut findings);
            if args.verify || args.checksums || args.repair {
                disk::integrity(&store, args, ui, &mut findings);
            }
        }
        remote::check(settings, &mut findings);
    }
    ui.print_as(
        args.json,
        || format!("{:#}\n", json!({ "version": 1, "checks": findings.checks })),
        || findings.text(ui),
    )?;
    Ok(if findings.worst() == Verdict::Bad { Status::Found } else { Status::Done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_groups_by_section_and_bad_news_decides() {
        let mut findings = Findings { section: "store", ..Findings::default() };
        findings.add(Verdict::Good, "writable");
        findings.add_with_hint(Verdict::Warning, "slow", "buy a disk");
        assert_eq!(findings.worst(), Verdict::Good);
        findings.section = "Cargo";
        findings.add(Verdict::Bad, "no wrapper");
        assert_eq!(findings.worst(), Verdict::Bad);
        let expected =
            "store\n  ok   writable\n  warn slow\n       hint: buy a disk\nCargo\n  BAD  no wrapper\n";
        assert_eq!(findings.text(&Ui::plain()), expected);
    }
}
