//! Random walks: small random workspaces in three worktrees, random sequences of edits, builds, interruptions and
//! losses with the real Cargo, and after every build the comparison with a clean build without kache and the proof
//! that nothing is left to do. A seed fixes a walk; a failure prints it, the steps so far and how to take them again.
//! Here they build in Cargo's classic directories; `../walk_per_unit` takes the same ones with a directory for each unit.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `KACHE_WALK_SEED` | take the walk of this seed in place of the four fixed ones |
//! | `KACHE_WALK_STEPS` | its number of steps |
//! | `KACHE_WALK_ONLY` | take only these of its steps (`3,7,12-20`), to find out which of them matter |
//! | `KACHE_WALK_FETCHED` | some packages are fetched, and dependencies are put into place before Cargo looks |
//! | `KACHE_WALK_KEEP` | keep the worktrees and the cache of a failure |

mod generator;
mod model;
mod oracle;
mod random;
mod render;
mod steps;
mod walker;

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::time::Instant;

use kache_testkit::{FileSystem, Sandbox, Volume};

use self::model::{Fetched, Workspace};
use self::random::Random;
use self::steps::Step;
use self::walker::Walker;

/// Steps of each of the fixed walks.
const STEPS: usize = 130;
/// Steps of the walks on file systems of their own.
const STEPS_ELSEWHERE: usize = 30;

/// A walk by its seed.
#[derive(Debug, Clone)]
struct Walk {
    seed: u64,
    steps: usize,
    only: Option<Vec<usize>>,
    fetched: Fetched,
}

/// What a failure has to say.
struct Report<'a> {
    walk: &'a Walk,
    workspace: &'a Workspace,
    taken: Vec<(usize, &'a Step)>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Walk { seed, steps, only, fetched } = self.walk;
        let fetched = if *fetched == Fetched::Some { " KACHE_WALK_FETCHED=1" } else { "" };
        eprintln!("\n=== walk {seed} failed at its last step of these");
        for (number, step) in &self.taken {
            eprintln!("{number:4}  {}", step.describe(self.workspace));
        }
        eprintln!("=== workspace");
        self.workspace.packages.iter().for_each(|package| eprintln!("{package:?}"));
        let only = only.as_ref().map_or_else(String::new, |only| {
            let numbers: Vec<String> = only.iter().map(ToString::to_string).collect();
            format!(" KACHE_WALK_ONLY={}", numbers.join(","))
        });
        eprintln!(
            "=== again: KACHE_WALK_SEED={seed} KACHE_WALK_STEPS={steps}{fetched}{only} cargo test -p kache --test {} given_walk",
            env!("CARGO_CRATE_NAME")
        );
    }
}

impl Walk {
    fn take(&self) {
        self.take_below(&env::temp_dir());
    }

    fn take_below(&self, parent: &Path) {
        let mut random = Random::new(self.seed);
        let mut workspace = generator::workspace(&mut random, self.fetched);
        let steps = generator::steps(&mut random, &workspace, self.steps);
        let mut sandbox = Sandbox::new_in(env!("CARGO_BIN_EXE_kache"), parent);
        if env::var_os("KACHE_WALK_KEEP").is_some() {
            eprintln!("walk {} is at {}", self.seed, sandbox.root().display());
            sandbox.keep();
        }
        if workspace.fetches() {
            let dir = sandbox.root().join("upstream");
            std::fs::create_dir(&dir).expect("make a directory");
            workspace.upstream = format!("file://{}", dir.display());
        }
        let start_of_journal = sandbox.mark();
        let mut report = Report { walk: self, workspace: &workspace, taken: Vec::new() };
        let mut walker = Walker::new(&sandbox, &workspace);
        let start = Instant::now();
        for (number, step) in steps.iter().enumerate() {
            if self.only.as_ref().is_none_or(|only| only.contains(&number)) {
                report.taken.push((number, step));
                walker.take(number, step);
            }
        }
        walker.finish();
        let (builds, clean) = walker.builds();
        let seconds = start.elapsed().as_secs();
        let events = sandbox.events_since(&start_of_journal);
        let seedings = events.iter().filter(|event| event.kind == "seeding");
        let placed =
            |event: &kache_testkit::Event| event.number("seeding/units") + event.number("seeding/runs");
        let seeded: u64 = seedings.clone().map(placed).sum();
        let mut reasons = BTreeMap::<String, u64>::new();
        for event in seedings {
            let declined = event.json["seeding"]["declined"].as_str();
            declined.into_iter().for_each(|why| *reasons.entry(why.to_owned()).or_default() += 1);
            for (why, count) in event.json["seeding"]["reasons"].as_object().into_iter().flatten() {
                *reasons.entry(why.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
        }
        eprintln!(
            "walk {}: {} steps, {builds} builds, {clean} clean ones, {seeded} units seeded, not for {reasons:?}, {seconds} s",
            self.seed, self.steps
        );
    }
}

/// The walk of one of the fixed seeds, unless another one is wanted.
fn fixed_walk(seed: u64) {
    fixed_walk_with(seed, Fetched::Nothing);
}

fn fixed_walk_with(seed: u64, fetched: Fetched) {
    if env::var_os("KACHE_WALK_SEED").is_none() {
        Walk { seed, steps: STEPS, only: None, fetched }.take();
    }
}

/// Two walks in which dependencies are fetched, and put into place before Cargo looks.
#[test]
fn walk_seeded_1() {
    fixed_walk_with(1, Fetched::Some);
}

#[test]
fn walk_seeded_2() {
    fixed_walk_with(2, Fetched::Some);
}

#[test]
fn walk_1() {
    fixed_walk(1);
}

#[test]
fn walk_2() {
    fixed_walk(2);
}

#[test]
fn walk_3() {
    fixed_walk(3);
}

#[test]
fn walk_4() {
    fixed_walk(4);
}

/// A short walk where outputs are cloned.
#[test]
fn walk_on_xfs() {
    walk_on(FileSystem::Xfs, 5);
}

/// Another one.
#[test]
fn walk_on_btrfs() {
    walk_on(FileSystem::Btrfs, 6);
}

fn walk_on(file_system: FileSystem, seed: u64) {
    if env::var_os("KACHE_WALK_SEED").is_some() {
        return;
    }
    if let Some(volume) = Volume::mount(file_system) {
        Walk { seed, steps: STEPS_ELSEWHERE, only: None, fetched: Fetched::Nothing }
            .take_below(&volume.root());
    }
}

/// The walk that the variables ask for.
#[test]
fn given_walk() {
    let number = |name: &str| -> Option<u64> {
        let text = env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
    };
    let Some(seed) = number("KACHE_WALK_SEED") else { return };
    let steps = number("KACHE_WALK_STEPS").map_or(STEPS, |steps| usize::try_from(steps).expect("small"));
    let only = env::var("KACHE_WALK_ONLY").ok().map(|text| numbers(&text));
    let fetched = env::var_os("KACHE_WALK_FETCHED").map_or(Fetched::Nothing, |_| Fetched::Some);
    Walk { seed, steps, only, fetched }.take();
}

/// `3,7,12-14` as numbers.
fn numbers(text: &str) -> Vec<usize> {
    let number = |text: &str| text.trim().parse::<usize>().unwrap_or_else(|e| panic!("{text:?}: {e}"));
    let ranges = text.split(',').map(|part| match part.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(part)..=number(part),
    });
    ranges.flatten().collect()
}

/// A seed means the same walk everywhere.
#[test]
fn a_seed_fixes_the_walk() {
    let once = |seed| {
        let mut random = Random::new(seed);
        let workspace = generator::workspace(&mut random, Fetched::Some);
        let steps = generator::steps(&mut random, &workspace, 50);
        let words: Vec<String> = steps.iter().map(|step| step.describe(&workspace)).collect();
        (format!("{workspace:?}"), words)
    };
    assert_eq!(once(7), once(7));
    assert_ne!(once(7), once(8));
    assert_eq!(numbers("3,7,12-14"), [3, 7, 12, 13, 14]);
}
