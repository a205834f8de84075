//! `kache clean`: finds Cargo's target directories, shows what each really occupies and how much of it the store has,
//! and removes those that are chosen, or units in them. Directories are found and measured in `census`, what goes is
//! decided in `plan`, choosing is in `picker`.

mod auto;
mod picker;
mod plan;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use kache_core::config::Settings;
use kache_core::quantity::{format_duration, format_size};
use kache_store::Store;
use kache_store::footprint::Footprint;
use kache_store::receipts::{End, Receipt};
use serde_json::json;

use super::census::find::Programs;
use super::census::{Census, Durations, Scope};
use super::{current_dir, now_ms, settings};
use crate::error::{CliError, Outcome, Status};
use crate::ui::{Align, Style, Table, Ui};
use plan::{Ended, Removal, Rules, What, cost_text, sum, sum_text};

/// Find target directories, and remove those that are chosen, or what is old in them
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache clean                        choose among those below the current directory
  kache clean --dry-run ~/src        only show what there is, and what would be free
  kache clean -y ~/src/old           remove all that are found there
  kache clean --unused-for 30d       what no build has used for thirty days
  kache clean --all --orphaned       target directories of worktrees that are gone
  kache clean --old-compilers ~/src  what compilers have made that are no longer installed

A directory counts as a target directory when it has the tag that Cargo puts there (CACHEDIR.TAG) and Cargo's own files, \
whatever it is called. Symbolic links are not followed. Files that the store or another directory has a link to, and \
clones, free nothing, so the sum is what the disk really gets back. What the store holds comes back without a compile.

`--unused-for` and `--old-compilers` remove single units, which Cargo builds again when it needs them, and leave the \
rest of the directory fresh. A directory goes as a whole when no build has used any of it for that long. Programs that \
Cargo has put beside the units (target/debug/app) stay. A directory in which a build or a program runs is left alone.")]
pub struct Args {
    /// Directories to search; default is the current one
    dirs: Vec<PathBuf>,
    /// Also all that kache has served, wherever they are
    #[arg(short, long)]
    all: bool,
    /// Units that no build has used for this long (30m, 24h, 7d, or bare hours)
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    unused_for: Option<Duration>,
    /// Units of compilers that are no longer installed
    #[arg(long)]
    old_compilers: bool,
    /// Directories of projects that are gone
    #[arg(long)]
    orphaned: bool,
    /// Show what would go, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Remove everything that is found without asking
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Wait for this Cargo to end, then remove what the settings name: for the wrapper
    #[arg(long, hide = true, value_name = "ID-START", exclusive = true, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    auto: Option<String>,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    if let Some(session) = &args.auto {
        return auto::run(session, ui);
    }
    let dirs = match args.dirs.is_empty() && !args.all {
        true => vec![current_dir()?],
        false => super::census::existing(&args.dirs)?,
    };
    let settings = settings(ui)?;
    let scope = if args.all { Scope::ServedAnd(&dirs) } else { Scope::Below(&dirs) };
    let census = Census::take(&settings, scope, ui)?;
    let rules =
        Rules { unused_for: args.unused_for, old_compilers: args.old_compilers, orphaned: args.orphaned };
    let now_s = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
    let removals = plan::plan(&census, &rules, &Durations::read(&settings), now_s)?;
    if args.dry_run || removals.is_empty() {
        ui.print_as(args.json, || json(&removals, None), || text(&census, &removals, ui))?;
        return Ok(Status::Done);
    }
    let chosen: Vec<usize> = match (args.yes, io::stdin().is_terminal() && io::stderr().is_terminal()) {
        (true, _) => (0..removals.len()).collect(),
        (false, true) => picker::choose(&removals)?.unwrap_or_default(),
        (false, false) => {
            return Err(CliError::usage("there is nobody to ask: this is not a terminal")
                .hint("`kache clean -y` removes everything, `kache clean --dry-run` only shows it"));
        }
    };
    if chosen.is_empty() {
        ui.status("Nothing was removed.");
        return Ok(Status::Done);
    }
    remove(&removals, &chosen, (args, &settings), ui)
}

fn remove(
    removals: &[Removal<'_>],
    chosen: &[usize],
    (args, settings): (&Args, &Settings),
    ui: &Ui,
) -> Outcome {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    let store = settings.cache_dir().ok().and_then(|dir| Store::open_existing(dir).ok());
    let programs = Programs::running();
    for at in chosen {
        let removal = &removals[*at];
        ui.progress(&format!("removing {} in {}", removal.label(), removal.path().display()));
        let receipt = Receipt::begin(removal.path().to_owned(), args.words());
        let ended = with_receipt(store.as_ref(), receipt, removal, &programs);
        ui.progress("");
        match ended {
            Ok(Ended::Gone) => done.push(*at),
            Ok(Ended::Stays(why)) => ui.warn(&format!("{} stays: {why}", removal.path().display())),
            Err(error) => errors.push(error),
        }
    }
    let gone = || done.iter().map(|at| &removals[*at]);
    if args.json {
        ui.print_json(&json(removals, Some(&done)))?;
    }
    let (footprint, cost) = sum(gone());
    ui.status(&format!(
        "Removed {}: {} freed.",
        removed_text(gone()),
        format_size(footprint.reclaimable_bytes())
    ));
    if cost != super::census::Cost::default() {
        ui.status(&format!("To have it back takes {}.", cost_text(&cost)));
    }
    match errors.into_iter().next() {
        None => Ok(Status::Done),
        Some(error) => Err(error),
    }
}

/// Removes it, and puts that into the journal: before, since the removal may be interrupted, and afterwards.
fn with_receipt(
    store: Option<&Store>,
    mut receipt: Receipt,
    removal: &Removal<'_>,
    programs: &Programs,
) -> Result<Ended, CliError> {
    if let What::Units(units) = &removal.what {
        receipt.units = Some(units.len() as u64);
    }
    let note = |receipt: &Receipt| store.map_or(Ok(()), |store| store.note_removal(receipt));
    note(&receipt)?;
    let ended = removal.apply(programs);
    receipt.end = match &ended {
        Ok(Ended::Gone) => End::Gone,
        Ok(Ended::Stays(why)) => End::Stays(why.clone()),
        Err(error) => End::Stays(error.to_string()),
    };
    if receipt.end == End::Gone {
        receipt.freed_bytes = removal.footprint.reclaimable_bytes();
    }
    note(&receipt)?;
    ended
}

/// `3 target directories`, `12 units in 2 target directories`, or both.
fn removed_text<'r>(removals: impl Iterator<Item = &'r Removal<'r>>) -> String {
    let (mut whole, mut parts, mut units) = (0, 0, 0);
    for removal in removals {
        match &removal.what {
            What::Whole => whole += 1,
            What::Units(some) => (parts, units) = (parts + 1, units + some.len()),
        }
    }
    let of_units = match units {
        1 => "1 unit".to_owned(),
        units => format!("{units} units"),
    };
    match (whole, parts) {
        (_, 0) => counted(whole),
        (0, _) => format!("{of_units} in {}", counted(parts)),
        (_, _) => format!("{}, and {of_units} in {}", counted(whole), counted(parts)),
    }
}

impl Args {
    /// What is asked for, for receipts.
    fn words(&self) -> String {
        let age = self.unused_for.map(|age| format!("unused for {}", format_duration(age)));
        let old = self.old_compilers.then(|| "compiler gone".to_owned());
        let orphaned = self.orphaned.then(|| "project gone".to_owned());
        let words: Vec<String> = [age, old, orphaned].into_iter().flatten().collect();
        if words.is_empty() { "asked for".to_owned() } else { words.join(", ") }
    }
}

/// The share that the store has.
fn held(footprint: &Footprint) -> String {
    match footprint.content_bytes() {
        0 => "–".to_owned(),
        all => format!("{:.0} %", footprint.held_bytes() as f64 * 100.0 / all as f64),
    }
}

fn text(census: &Census, removals: &[Removal<'_>], ui: &Ui) -> String {
    if removals.is_empty() {
        return match census.targets.len() {
            0 => "No target directory was found.\n".to_owned(),
            found => format!("{} found, and nothing in it is to be removed.\n", counted(found)),
        };
    }
    let mut table = Table::new(&[
        ("would free", Align::Right),
        ("on disk", Align::Right),
        ("in store", Align::Right),
        ("what", Align::Left),
        ("target directory", Align::Left),
    ]);
    for removal in removals {
        let note = removal.busy().map(|busy| format!("  ({busy})")).unwrap_or_default();
        table.row([
            format_size(removal.footprint.reclaimable_bytes()),
            format_size(removal.footprint.disk_bytes()),
            held(&removal.footprint),
            removal.label(),
            format!("{}{note}", removal.path().display()),
        ]);
    }
    let on_disk = format_size(sum(removals).0.disk_bytes());
    let line = format!("{}, {on_disk} on disk; {}.", removed_text(removals.iter()), sum_text(removals));
    format!("{}{}\n", table.render(ui), ui.out(Style::Bold, &line))
}

/// `3 target directories`.
fn counted(count: usize) -> String {
    if count == 1 { "1 target directory".to_owned() } else { format!("{count} target directories") }
}

fn json(removals: &[Removal<'_>], removed: Option<&[usize]>) -> String {
    let one = |(at, removal): (usize, &Removal<'_>)| {
        json!({
            "path": removal.path(),
            "busy": removal.busy(),
            "units": match &removal.what {
                What::Whole => None,
                What::Units(units) => Some(units.len()),
            },
            "files": removal.footprint.files,
            "disk_bytes": removal.footprint.disk_bytes(),
            "reclaimable_bytes": removal.footprint.reclaimable_bytes(),
            "held_bytes": removal.footprint.held_bytes(),
            "cost": super::census::cost_json(&removal.cost),
            "removed": removed.is_some_and(|removed| removed.contains(&at)),
        })
    };
    let (all, cost) = sum(removals);
    let freed = removed.map(|removed| sum(removed.iter().map(|at| &removals[*at])).0.reclaimable_bytes());
    let value = json!({
        "version": 1,
        "dry_run": removed.is_none(),
        "targets": removals.iter().enumerate().map(one).collect::<Vec<_>>(),
        "disk_bytes": all.disk_bytes(),
        "reclaimable_bytes": all.reclaimable_bytes(),
        "cost": super::census::cost_json(&cost),
        "freed_bytes": freed,
    });
    format!("{value:#}\n")
}
