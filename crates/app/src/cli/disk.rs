//! `kache disk`: the census of target directories, as a table or for scripts. The form of the latter is published in
//! `docs/schema/disk-v1.json`: fields may be added, and the version rises when one changes its meaning.

mod log;
mod share;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use kache_core::quantity::{format_duration, format_size};
use kache_store::footprint::Footprint;
use serde_json::{Value, json};

use super::census::units::Unit;
use super::census::{Census, Cost, Durations, Scope, Target, cost_json, existing};
use super::{now_ms, settings};
use crate::error::{CliError, Outcome, Status};
use crate::ui::{Align, Style, Table, Ui};

/// Show the target directories that kache has served: what they occupy, and what of it comes back without a compile
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache disk                all target directories that kache has served
  kache disk ~/src          also those below ~/src that it has never seen
  kache disk --share -n     what of them could share bytes with the store
  kache disk --log          what was removed, when and why
  kache disk --json | jq -r '.targets[] | select(.orphaned) | .path'  for scripts; the schema is docs/schema/disk-v1.json

The sum of the first two columns is what `du` says of a directory. What is its own is free once the directory is removed; \
what is shared, by hard link or clone, the store or another directory has too. Units back: compiles whose result the \
store has, of all compiles in the directory. `kache clean` removes what is shown here.

`--share` looks for files whose content the store has, in directories that were copied or where the same was made again, and \
makes them clones of it. Where the file system has none they become links: libraries, macros and build scripts, if the store's \
older time changes nothing that Cargo compares. A directory in which a build runs is left alone.")]
pub struct Args {
    /// Directories to search for more target directories
    dirs: Vec<PathBuf>,
    /// Show what was removed from target directories, by `kache clean` and by itself
    #[arg(long, conflicts_with_all = ["dirs", "share"])]
    log: bool,
    /// Have the files there share their bytes with the store
    #[arg(long)]
    share: bool,
    /// With `--share`: show what would be shared, and change nothing
    #[arg(short = 'n', long, requires = "share")]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A directory with what is shown about it alone.
struct Row<'c> {
    target: &'c Target,
    cost: Cost,
    /// Units of compilers that are no longer installed, and what they occupy.
    old: (usize, Footprint),
    old_versions: Vec<String>,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    if args.log {
        return log::run(args.json, &settings, ui);
    }
    let dirs = existing(&args.dirs)?;
    if args.share {
        return share::run(args, Scope::ServedAnd(&dirs), &settings, ui);
    }
    let census = Census::take(&settings, Scope::ServedAnd(&dirs), ui)?;
    let durations = Durations::read(&settings);
    let rows: Result<Vec<_>, _> =
        census.targets.iter().map(|target| row(&census, target, &durations)).collect();
    let rows = rows?;
    let now_s = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
    ui.print_as(args.json, || format!("{:#}\n", json(&rows)), || text(&rows, now_s, ui))?;
    Ok(Status::Done)
}

fn row<'c>(census: &Census, target: &'c Target, durations: &Durations) -> Result<Row<'c>, CliError> {
    let old: Vec<&Unit> = target.units.iter().filter(|unit| census.is_of_gone_compiler(unit)).collect();
    let footprint = Footprint::of_all(old.iter().flat_map(|unit| unit.paths()), &census.blobs)?;
    Ok(Row {
        target,
        cost: census.cost(&target.units, durations),
        old: (old.len(), footprint),
        old_versions: census.gone_versions(target).into_iter().collect(),
    })
}

/// All of them together: an inode that two directories have counts once.
fn sum(rows: &[Row<'_>]) -> Footprint {
    let mut sum = Footprint::default();
    rows.iter().for_each(|row| sum.merge(&row.target.footprint));
    sum
}

fn text(rows: &[Row<'_>], now_s: i64, ui: &Ui) -> String {
    if rows.is_empty() {
        return "kache has served no target directory that is still there.\n".to_owned();
    }
    let mut table = Table::new(&[
        ("own", Align::Right),
        ("shared", Align::Right),
        ("units back", Align::Right),
        ("last use", Align::Right),
        ("branch", Align::Left),
        ("target directory", Align::Left),
    ]);
    for row in rows {
        let target = row.target;
        let unused = |used_s: i64| {
            let unused_s = u64::try_from(now_s.saturating_sub(used_s)).unwrap_or(0);
            format_duration(Duration::from_secs(unused_s / 60 * 60))
        };
        let branches: Vec<&str> =
            target.projects.iter().filter_map(|project| project.branch.as_deref()).collect();
        table.row([
            format_size(target.footprint.reclaimable_bytes()),
            format_size(target.footprint.shared_bytes()),
            format!("{} of {}", row.cost.served, row.cost.served + row.cost.compiles),
            target.used_s.map_or_else(|| "?".to_owned(), unused),
            branches.join(", "),
            format!("{}{}", target.found.path.display(), notes(row)),
        ]);
    }
    let all = sum(rows);
    let count = if rows.len() == 1 {
        "1 target directory".to_owned()
    } else {
        format!("{} target directories", rows.len())
    };
    let line = format!(
        "{count}, {} on disk, of which {} are free once all are removed.",
        format_size(all.disk_bytes()),
        format_size(all.reclaimable_bytes())
    );
    let mut text = format!("{}{}\n", table.render(ui), ui.out(Style::Bold, &line));
    let orphaned = rows.iter().filter(|row| row.target.is_orphaned()).count();
    if orphaned > 0 {
        let _ =
            writeln!(text, "Projects of {orphaned} are gone: `kache clean --all --orphaned` removes them.");
    }
    if rows.iter().any(|row| row.old.0 > 0) {
        text.push_str(
            "Some units are of compilers that are gone: `kache clean --all --old-compilers` removes them.\n",
        );
    }
    text
}

/// What else there is to say of a directory.
fn notes(row: &Row<'_>) -> String {
    let mut notes = Vec::new();
    notes.extend(row.target.found.busy.clone());
    if row.target.is_orphaned() {
        notes.push("project gone".to_owned());
    }
    if !row.target.is_served {
        notes.push("never served".to_owned());
    }
    if row.old.0 > 0 {
        let (units, size) = (row.old.0, format_size(row.old.1.reclaimable_bytes()));
        notes.push(format!("{units} units, {size}, of {}, no longer installed", row.old_versions.join(", ")));
    }
    if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) }
}

fn json(rows: &[Row<'_>]) -> Value {
    let project = |project: &super::census::checkout::Checkout| json!({ "path": project.project, "there": project.is_there, "branch": project.branch });
    let one = |row: &Row<'_>| {
        let target = row.target;
        json!({
            "path": target.found.path,
            "busy": target.found.busy,
            "served": target.is_served,
            "orphaned": target.is_orphaned(),
            "projects": target.projects.iter().map(project).collect::<Vec<_>>(),
            "used_s": target.used_s,
            "files": target.footprint.files,
            "disk_bytes": target.footprint.disk_bytes(),
            "own_bytes": target.footprint.reclaimable_bytes(),
            "shared_bytes": target.footprint.shared_bytes(),
            "held_bytes": target.footprint.held_bytes(),
            "units": target.units.len(),
            "cost": cost_json(&row.cost),
            "old_compilers": {
                "versions": row.old_versions,
                "units": row.old.0,
                "own_bytes": row.old.1.reclaimable_bytes(),
            },
        })
    };
    let all = sum(rows);
    json!({
        "version": 1,
        "targets": rows.iter().map(one).collect::<Vec<_>>(),
        "disk_bytes": all.disk_bytes(),
        "own_bytes": all.reclaimable_bytes(),
        "shared_bytes": all.shared_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::census::checkout::Checkout;
    use crate::cli::census::find::Found;

    fn sample() -> [Target; 2] {
        let make = |name: &str, busy: Option<&str>, is_there: bool| Target {
            found: Found { path: format!("/src/{name}/target").into(), busy: busy.map(str::to_owned) },
            footprint: Footprint::default(),
            projects: vec![Checkout {
                project: format!("/src/{name}").into(),
                is_there,
                branch: is_there.then(|| "main".to_owned()),
            }],
            is_served: is_there,
            used_s: is_there.then_some(1_800_000_000),
            units: Vec::new(),
        };
        [make("one", Some("a build is running in it"), true), make("two", None, false)]
    }

    fn rows(targets: &[Target]) -> Vec<Row<'_>> {
        let make = |target| Row {
            target,
            cost: Cost { served: 7, compiles: 2, ..Cost::default() },
            old: (3, Footprint::default()),
            old_versions: vec!["1.94.0".to_owned()],
        };
        targets.iter().map(make).collect()
    }

    #[test]
    fn the_census_is_what_the_schema_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema/disk-v1.json");
        let schema: Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("schema")).expect("JSON");
        let targets = sample();
        for rows in [rows(&targets), Vec::new()] {
            assert_eq!(crate::schema::violations(&schema, &json(&rows)), [""; 0]);
        }
        let mut broken = json(&rows(&targets));
        broken["targets"][0]["orphaned"] = "perhaps".into();
        broken["targets"][1]["extra"] = 1.into();
        assert_eq!(crate::schema::violations(&schema, &broken).len(), 2);
    }

    #[test]
    fn the_table_says_whose_a_directory_is_and_what_is_old_in_it() {
        let targets = sample();
        let text = text(&rows(&targets), 1_800_000_000 + 3 * 86_400, &Ui::plain());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1..4],
            [
                "0 B     0 B      7 of 9        3d  main    /src/one/target  (a build is running in it; \
                 3 units, 0 B, of 1.94.0, no longer installed)",
                "0 B     0 B      7 of 9         ?          /src/two/target  (project gone; never served; \
                 3 units, 0 B, of 1.94.0, no longer installed)",
                "2 target directories, 0 B on disk, of which 0 B are free once all are removed.",
            ]
        );
        assert!(
            lines[4].contains("Projects of 1 are gone") && lines[5].contains("--old-compilers"),
            "{text}"
        );
    }
}
