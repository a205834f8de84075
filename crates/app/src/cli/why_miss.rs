//! `kache why-miss`: which input of a compile differs from the nearest earlier result, with both values and what can
//! be done about it. What was compared is found by `explain`, how it is shown is in `show`.

mod explain;
mod show;

use clap_complete::ArgValueCompleter;
use kache_core::event::Outcome as EventOutcome;
use kache_core::snapshot::Unfit;
use kache_engine::proof;
use kache_store::Store;
use serde_json::json;

use super::{completions, now_ms, open_store, settings, unknown_crate};
use crate::error::{Outcome, Status};
use crate::ui::Ui;
use explain::{Explanation, History};

/// Say which input of a crate's compile differs from the nearest earlier result
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache why-miss serde             why the latest compiles of serde were not served
  kache why-miss my-app --json     the same for scripts

Works on what was recorded when the compile happened: nothing has to be built again, and no tracing has to be on. \
Where a dependency differs, its own reason follows, down to the first thing that changed.")]
pub struct Args {
    /// Name of a crate or package
    #[arg(value_name = "CRATE", value_parser = super::crate_name, add = ArgValueCompleter::new(completions::crates))]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let unknown = |store| unknown_crate(store, &args.name, "the journal has no compile of");
    let Some(store) = open_store(&settings, ui)? else { return Err(unknown(None)) };
    let history = History::new(&store, &args.name);
    let Some(latest) = history.latest() else { return Err(unknown(Some(&store))) };
    let unseeded = unseeded(&store, &args.name);
    let misses: Vec<_> = history.misses().into_iter().filter_map(|at| history.explain(at)).collect();
    let place = |miss: &Explanation| proof::of_unit(&store, miss.event.unit_key.as_ref()?);
    if args.json {
        let with_place = |miss| {
            let mut shown = show::json(miss);
            shown["place"] = json!(place(miss));
            shown
        };
        let shown: Vec<_> = misses.iter().map(with_place).collect();
        let value = json!({
            "version": 1,
            "crate": args.name,
            "latest": { "outcome": latest.outcome, "at_ms": latest.at_ms },
            "misses": shown,
            "unseeded": unseeded,
        });
        ui.print_json(&format!("{value:#}\n"))?;
        return Ok(Status::Done);
    }
    if latest.outcome == EventOutcome::Hit {
        let ago = show::ago(now_ms(), latest.at_ms);
        let earlier = if misses.is_empty() { "; no miss is on record" } else { "; before that:" };
        ui.status(&format!("The latest call for {} was a hit, {ago} ago{earlier}", args.name));
    }
    let text = |miss| {
        let place = place(miss).map(|words| format!("  other places: {words}\n")).unwrap_or_default();
        show::text(miss, ui, now_ms()) + &place
    };
    let texts: Vec<String> = misses.iter().map(text).collect();
    ui.print(&texts.join("\n"))?;
    if !unseeded.is_empty() {
        let lines = unseeded.iter().map(|unit| format!("  {}: {} ({})\n", unit.unit, unit.detail, unit.code));
        let lines: String = lines.collect();
        ui.print(&format!("Not put into place when this workspace's target directory was fresh:\n{lines}"))?;
    }
    Ok(Status::Done)
}

/// Units of a package that were not seeded in the workspace of the current directory, and why.
fn unseeded(store: &Store, name: &str) -> Vec<Unfit> {
    let dir = std::env::current_dir().unwrap_or_default();
    let of = |unit: &Unfit| unit.package.split(' ').next().unwrap_or_default().replace('-', "_");
    let wanted = name.replace('-', "_");
    kache_engine::seed::left_out(store, &dir).into_iter().filter(|unit| of(unit) == wanted).collect()
}
