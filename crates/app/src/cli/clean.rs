//! `kache clean`: finds Cargo's target directories, shows what each really occupies and how much of it the store has,
//! and removes those that are chosen. Finding is in `find`, choosing in `picker`.

mod find;
mod picker;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use kache_core::quantity::format_size;
use kache_store::Store;
use kache_store::footprint::{BlobIndex, Footprint};
use serde_json::json;

use super::{current_dir, settings};
use crate::error::{CliError, Outcome, Status};
use crate::ui::{Align, Style, Table, Ui};
use find::Found;

/// Find target directories, and remove those that are chosen
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache clean                    choose among those below the current directory
  kache clean --dry-run ~/src    only show what there is, and what would be free
  kache clean -y ~/src/old       remove all that are found there

A directory counts as a target directory when it has the tag that Cargo puts there (CACHEDIR.TAG) and Cargo's own files, \
whatever it is called. Symbolic links are not followed. Files that the store or another directory has a link to, and \
clones, free nothing, so the sum is what the disk really gets back. What the store holds comes back without a compile.")]
pub struct Args {
    /// Directories to search; default is the current one
    dirs: Vec<PathBuf>,
    /// Show what would go, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Remove everything that is found without asking
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A target directory with what is known about it.
struct Target {
    found: Found,
    footprint: Footprint,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let cwd = current_dir()?;
    let dirs: Vec<PathBuf> = match args.dirs.is_empty() {
        true => vec![cwd],
        false => args.dirs.iter().map(|dir| cwd.join(dir)).collect(),
    };
    if let Some(missing) = dirs.iter().find(|dir| !dir.is_dir()) {
        return Err(CliError::usage(format!("{} is not a directory", missing.display())));
    }
    let targets = gather(&dirs, ui)?;
    if args.dry_run || targets.is_empty() {
        ui.print_as(args.json, || json(&targets, None), || text(&targets, ui))?;
        return Ok(Status::Done);
    }
    let chosen: Vec<&Target> = match (args.yes, io::stdin().is_terminal() && io::stderr().is_terminal()) {
        (true, _) => targets.iter().collect(),
        (false, true) => match picker::choose(&targets)? {
            Some(chosen) => chosen.into_iter().map(|at| &targets[at]).collect(),
            None => Vec::new(),
        },
        (false, false) => {
            return Err(CliError::usage("there is nobody to ask: this is not a terminal")
                .hint("`kache clean -y` removes everything, `kache clean --dry-run` only shows it"));
        }
    };
    if chosen.is_empty() {
        ui.status("Nothing was removed.");
        return Ok(Status::Done);
    }
    remove(&targets, &chosen, args, ui)
}

/// Finds the target directories and measures them.
fn gather(dirs: &[PathBuf], ui: &Ui) -> Result<Vec<Target>, CliError> {
    let blobs = match settings(ui)?.cache_dir().map(Store::open_existing) {
        Ok(Ok(store)) => store.blob_index()?,
        Ok(Err(_)) | Err(_) => BlobIndex::default(),
    };
    let found = find::below(dirs, |path| ui.progress(&format!("looking in {}", path.display())));
    let mut targets = Vec::new();
    for found in found {
        ui.progress(&format!("measuring {}", found.path.display()));
        match Footprint::of(&found.path, &blobs) {
            Ok(footprint) => targets.push(Target { found, footprint }),
            Err(error) => ui.warn(&format!("{} is left out: {error}", found.path.display())),
        }
    }
    ui.progress("");
    targets.sort_by_key(|target| std::cmp::Reverse(target.footprint.reclaimable_bytes()));
    Ok(targets)
}

fn remove(all: &[Target], chosen: &[&Target], args: &Args, ui: &Ui) -> Outcome {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for target in chosen {
        let path = &target.found.path;
        // What was a target directory when it was found may be something else by now.
        match find::check(path) {
            None => ui.warn(&format!("{} is no target directory any more; it stays", path.display())),
            Some(found) if found.busy.is_some() => ui.warn(&busy_text(path, &found)),
            Some(_) => match find::remove(path) {
                Ok(true) => done.push(*target),
                Ok(false) => ui.warn(&format!("{} stays: a build has just begun in it", path.display())),
                Err(error) => errors.push(CliError::file("remove", path, &error)),
            },
        }
    }
    let freed = sum(&done).reclaimable_bytes();
    if args.json {
        ui.print_json(&json(all, Some(&done)))?;
    }
    ui.status(&format!("Removed {}: {} freed.", counted(done.len()), format_size(freed)));
    match errors.into_iter().next() {
        None => Ok(Status::Done),
        Some(error) => Err(error),
    }
}

/// What several occupy together: an inode that two of them have counts once, and is free only when both go.
fn sum(targets: &[&Target]) -> Footprint {
    let mut sum = Footprint::default();
    targets.iter().for_each(|target| sum.merge(&target.footprint));
    sum
}

fn busy_text(path: &Path, found: &Found) -> String {
    let why = found.busy.as_deref().unwrap_or("in use");
    format!("{} stays: {why}", path.display())
}

/// The share that the store has.
fn held(footprint: &Footprint) -> String {
    match footprint.content_bytes() {
        0 => "–".to_owned(),
        all => format!("{:.0} %", footprint.held_bytes() as f64 * 100.0 / all as f64),
    }
}

fn text(targets: &[Target], ui: &Ui) -> String {
    if targets.is_empty() {
        return "No target directory was found.\n".to_owned();
    }
    let mut table = Table::new(&[
        ("would free", Align::Right),
        ("on disk", Align::Right),
        ("in store", Align::Right),
        ("target directory", Align::Left),
    ]);
    for target in targets {
        let note = target.found.busy.as_ref().map(|busy| format!("  ({busy})")).unwrap_or_default();
        table.row([
            format_size(target.footprint.reclaimable_bytes()),
            format_size(target.footprint.disk_bytes()),
            held(&target.footprint),
            format!("{}{note}", target.found.path.display()),
        ]);
    }
    let all = sum(&targets.iter().collect::<Vec<_>>());
    let line = format!(
        "{}, {} on disk; removing all of that would free {}.",
        counted(targets.len()),
        format_size(all.disk_bytes()),
        format_size(all.reclaimable_bytes())
    );
    format!("{}{}\n", table.render(ui), ui.out(Style::Bold, &line))
}

/// `3 target directories`.
fn counted(count: usize) -> String {
    if count == 1 { "1 target directory".to_owned() } else { format!("{count} target directories") }
}

fn json(targets: &[Target], removed: Option<&[&Target]>) -> String {
    let is_removed = |target: &Target| {
        removed.is_some_and(|removed| removed.iter().any(|other| other.found.path == target.found.path))
    };
    let one = |target: &Target| {
        json!({
            "path": target.found.path,
            "busy": target.found.busy,
            "files": target.footprint.files,
            "disk_bytes": target.footprint.disk_bytes(),
            "reclaimable_bytes": target.footprint.reclaimable_bytes(),
            "held_bytes": target.footprint.held_bytes(),
            "removed": is_removed(target),
        })
    };
    let all = sum(&targets.iter().collect::<Vec<_>>());
    let value = json!({
        "version": 1,
        "dry_run": removed.is_none(),
        "targets": targets.iter().map(one).collect::<Vec<_>>(),
        "disk_bytes": all.disk_bytes(),
        "reclaimable_bytes": all.reclaimable_bytes(),
        "freed_bytes": removed.map(|removed| sum(removed).reclaimable_bytes()),
    });
    format!("{value:#}\n")
}
