//! Whether a result depends on where it was made. A compile whose sources or macros have looked at a local path is keyed
//! with that path, and a job is filed. After the build a background process, one for each store, does the compile once
//! more in an unlike place (`prover`) that has the same files (`replica`); where both results are the same, the entry is
//! published again without the path. The rules are in `core::proof`, the argument in `docs/design/0010-proofs.md`.

mod prover;
mod replica;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use kache_core::cargo::layout::LEDGER;
use kache_core::config::{Settings, env};
use kache_core::digest::Digest;
use kache_core::entry::Entry;
use kache_core::key::{EntryKey, UnitKey};
use kache_core::paths::Root;
use kache_core::proof::{self, Job, Proof};
use kache_core::record::{Input, InputRecord};
use kache_store::Store;
use kache_store::lock::Locking;
use kache_store::sys;

use crate::compile::Compiled;
use crate::finished::Finished;
use crate::inputs::Observer;
use crate::seed;
use crate::world::{Session, TargetLayout};

pub use prover::{Proven, prove, prove_after};

/// Kind of the memos that hold pending jobs, by the key that the entry would have everywhere.
const PENDING: &str = "unproven";
/// Kind of the memos that hold what proofs came to, by the same key; and by the unit key where the result depends on its
/// place.
const KNOWN: &str = "proofs";

/// A result that is the same everywhere, or isn't.
pub struct Question {
    /// Its record if it is.
    pub portable: InputRecord,
    /// Its key if it is.
    pub key: EntryKey,
    record: InputRecord,
    named: BTreeSet<String>,
}

impl Question {
    /// The question that a compile raises: its sources or macros have looked at a path of [`proof::MOVED`] roots
    /// (`visible`), and the outputs mention none (`settled`). `None` where there is none, or no way to answer it: what was
    /// read has to be known.
    pub fn of(
        done: &Finished<'_>,
        observer: &Observer<'_>,
        (record, settled, visible): (&InputRecord, &[Root], &[Root]),
        compiled: &Compiled,
    ) -> Option<Self> {
        compiled.observation.as_ref()?;
        let (mut seen, mut named): (BTreeSet<Root>, BTreeSet<String>) =
            (visible.iter().copied().collect(), BTreeSet::new());
        for input in &record.inputs {
            let Input::MacroEnv(library) = input else { continue };
            for (name, value) in observer.variables_of(library)? {
                let text = value.to_str().and_then(|text| done.roots.tokenize(text)).unwrap_or_default();
                seen.extend(Root::ALL.into_iter().filter(|root| text.contains(root.text_token())));
                named.insert(name.to_owned());
            }
        }
        let is_moved = |root: &Root| proof::MOVED.contains(root);
        if settled.iter().any(is_moved) || !seen.iter().any(is_moved) {
            return None;
        }
        seen.extend(settled);
        let kept: Vec<Root> = seen.into_iter().filter(|root| !is_moved(root)).collect();
        let portable = proof::portable(record, &kept);
        let (key, _) = observer.entry_key(&done.key.0, &portable, &done.unit.rendering).ok()?;
        Some(Self { portable, key, record: record.clone(), named })
    }

    /// Whether it is known to be the same everywhere.
    pub fn is_independent(&self, store: &Store) -> bool {
        known(store, &self.key.0) == Some(Proof::Independent)
    }
}

fn known(store: &Store, key: &Digest) -> Option<Proof> {
    serde_json::from_slice(&store.memo_get(KNOWN, key)?).ok()
}

fn note(store: &Store, key: &Digest, proof: &Proof) {
    if let Ok(json) = serde_json::to_vec(proof) {
        // Without it the next compile of this content asks again.
        let _ = store.memo_put(KNOWN, key, &json);
    }
}

/// Files a job for the question that a stored compile raises, unless the answer is known.
pub fn file(
    store: &Store,
    settings: &Settings,
    done: &Finished<'_>,
    (question, key, entry): (&Option<Question>, EntryKey, &Entry),
) {
    let Some(question) = question.as_ref().filter(|_| settings.prove.value) else { return };
    if known(store, &done.key.0.0).or_else(|| known(store, &question.key.0)).is_some() {
        return;
    }
    let secret_env = settings.remote().map_or(&[][..], |remote| &remote.secret_env.value);
    let named = question.named.iter().map(String::as_str).collect();
    let Some(env) = proof::environment(done.call, &question.record, &named, secret_env) else { return };
    let Some(profile_dir) = done.place.profile_dir.to_str() else { return };
    let call = done.call;
    let argv = call.driver.iter().chain([&call.compiler]).chain(&call.args);
    let job = Job {
        version: proof::VERSION,
        crate_name: done.unit.crate_name.clone(),
        unit: done.key.0,
        entry: key,
        record: question.record.clone(),
        kept: question.portable.baked.clone(),
        argv: argv.cloned().collect(),
        cwd: call.cwd.clone(),
        env,
        roots: done.roots.iter().map(|(root, path)| (root, path.to_owned())).collect(),
        profile_dir: profile_dir.to_owned(),
        portable_paths: settings.portable_paths.value,
        key_salt: settings.key_salt.as_ref().map(|salt| salt.value.clone()),
        compile_ms: entry.compile_ms,
        attempts: 0,
        scratch: None,
    };
    let json = serde_json::to_vec(&job).unwrap_or_default();
    if let Err(error) = store.memo_put(PENDING, &question.key.0, &json) {
        tracing::warn!(%error, "no proof will be tried");
    }
}

/// Starts the background process that works on pending jobs once the calling Cargo has ended, where there is something
/// to do and none is there: at most one for each Cargo.
pub fn start_if_due(store: &Store, settings: &Settings, session: &Session, place: &TargetLayout) {
    if !settings.prove.value || session.project.is_none() || store.memo_keys(PENDING).is_empty() {
        return;
    }
    let is_free = matches!(store.lock_proofs(Duration::ZERO), Ok(Locking::Locked(_)));
    let note = place.profile_dir.join(LEDGER).join("prover");
    if !is_free || !seed::claim(&note, &session.id).unwrap_or(false) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new(program);
    command.args(["prove", "--after", &session.id]);
    // A project's settings file is not found from where it runs.
    command.env(env::KACHE_CACHE_DIR, store.root());
    if let Err(error) = sys::detach_and_spawn(command) {
        tracing::warn!(%error, "no proof will be tried in the background");
    }
}

/// What is known about results and places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub pending: u64,
    /// Results that were shown to be the same everywhere.
    pub made: u64,
    /// Results that were shown to depend on their place, or about which nothing could be shown.
    pub failed: u64,
}

/// Counts proofs of the last 30 days: memos are kept that long.
pub fn counts(store: &Store) -> Counts {
    let mut counts = Counts { pending: store.memo_keys(PENDING).len() as u64, ..Counts::default() };
    for key in store.memo_keys(KNOWN) {
        match known(store, &key) {
            Some(Proof::Independent) => counts.made += 1,
            // A result that depends on its place is noted by its unit, too.
            Some(Proof::Depends(_) | Proof::Unshown(_)) => counts.failed += 1,
            None => {}
        }
    }
    counts
}

/// What is known about a unit whose entries are bound to their place, in words.
pub fn of_unit(store: &Store, unit: &UnitKey) -> Option<String> {
    if let Some(Proof::Depends(why)) = known(store, &unit.0) {
        return Some(format!("a compile elsewhere has shown that the result depends on the path: {why}"));
    }
    let jobs = store.memo_keys(PENDING).into_iter().filter_map(|key| job(store, &key));
    jobs.into_iter().any(|job| job.unit == *unit).then(|| {
        "proof pending: after the build kache compiles it once more elsewhere, and serves it everywhere if the result is \
         the same (`kache prove` does it now)"
            .to_owned()
    })
}

fn job(store: &Store, key: &Digest) -> Option<Job> {
    let job: Job = serde_json::from_slice(&store.memo_get(PENDING, key)?).ok()?;
    (job.version == proof::VERSION).then_some(job)
}
