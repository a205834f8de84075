//! What the tests share: the sandbox with the kache under test, assertions about outcomes and the store. Knows the
//! journal's words; nothing here knows a particular hazard.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use kache_core::digest::Digest;
use kache_core::entry::Entry;
use kache_testkit::{Cargo, Event, Run, Sandbox, walk};

/// A [`Sandbox`] around the kache under test. When it goes out of scope the store must be sound: every blob has the
/// digest in its name, every entry's blobs are there.
pub struct Lab {
    sandbox: Sandbox,
    spoiled: bool,
}

/// A new world.
pub fn lab() -> Lab {
    Lab { sandbox: Sandbox::new(env!("CARGO_BIN_EXE_kache")), spoiled: false }
}

/// A new world whose builds are quick, without debug information and incremental state: for tests that are about
/// neither of them.
pub fn lean_lab() -> Lab {
    lean_lab_on(&std::env::temp_dir())
}

/// The same on the file system that `parent` is on.
pub fn lean_lab_on(parent: &std::path::Path) -> Lab {
    let lab = Lab { sandbox: Sandbox::new_in(env!("CARGO_BIN_EXE_kache"), parent), spoiled: false };
    lab.set_env("CARGO_INCREMENTAL", "0");
    lab.set_env("CARGO_PROFILE_DEV_DEBUG", "0");
    lab
}

impl Deref for Lab {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Lab {
    /// The test damages the store itself.
    pub fn spoil(mut self) -> Self {
        self.spoiled = true;
        self
    }

    /// Removes a checkout, so that its name can be used again.
    pub fn remove(&self, project: &kache_testkit::Project<'_>) {
        fs::remove_dir_all(project.dir())
            .unwrap_or_else(|e| panic!("remove {}: {e}", project.dir().display()));
    }

    /// Puts the cache elsewhere.
    pub fn cache_at(mut self, dir: impl Into<PathBuf>) -> Self {
        self.sandbox.set_cache_dir(dir);
        self
    }

    /// Blob files.
    pub fn blobs(&self) -> Vec<PathBuf> {
        walk(&self.cache_dir().join("v1/blobs"))
            .into_iter()
            .filter(|file| digest_in_name(file).is_some())
            .collect()
    }

    /// Entry files.
    pub fn entries(&self) -> Vec<PathBuf> {
        walk(&self.cache_dir().join("v1/entries"))
            .into_iter()
            .filter(|file| digest_in_name(file).is_some())
            .collect()
    }

    /// Removes every entry: what they named is compiled again.
    pub fn clear_entries(&self) {
        self.entries().into_iter().for_each(|entry| fs::remove_file(entry).expect("remove an entry"));
    }

    /// `kache doctor --verify --checksums` has nothing to say against the store.
    pub fn assert_doctor_is_content(&self) {
        let (is_content, text) = self.doctor();
        assert!(is_content, "kache doctor:\n{text}");
    }

    /// Nobody knows whether what was written before a power cut is whole.
    pub fn pretend_that_entries_are_of_an_earlier_boot(&self) {
        for path in self.entries() {
            let bytes = fs::read(&path).expect("read an entry");
            let mut entry = Entry::decode(&bytes).expect("an entry");
            assert!(!entry.boot.is_empty(), "no boot in {}", path.display());
            entry.boot = "00000000-0000-0000-0000-000000000000".to_owned();
            fs::write(&path, entry.encode()).expect("change an entry");
        }
    }

    /// Panics unless every blob's content is what its name says and every entry's blobs exist.
    pub fn assert_store_is_sound(&self) {
        // Before the blobs: a recorder may still be at work, and it writes an entry after its blobs.
        let entries = self.entries();
        let mut known = std::collections::BTreeSet::new();
        for blob in self.blobs() {
            let named = digest_in_name(&blob).expect("filtered");
            let Ok(content) = fs::read(&blob) else { continue };
            assert_eq!(Digest::of(&content).to_string(), named, "blob {} was changed", blob.display());
            known.insert(named);
        }
        for path in entries {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let json = text.lines().next().unwrap_or_default();
            let entry: serde_json::Value =
                serde_json::from_str(json).unwrap_or_else(|e| panic!("entry {}: {e}", path.display()));
            for output in entry["outputs"].as_array().expect("outputs") {
                let digest = output["digest"].as_str().expect("digest");
                assert!(
                    known.contains(digest),
                    "entry {}: blob of {} is missing",
                    path.display(),
                    output["name"]
                );
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.spoiled && !std::thread::panicking() {
            self.assert_store_is_sound();
        }
    }
}

fn digest_in_name(file: &std::path::Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    (name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())).then(|| name.to_owned())
}

/// What is expected of a build, with kache as without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// It succeeds.
    Works,
    /// It fails, and says the same.
    Fails,
}

impl Build {
    /// Runs `cargo` with kache and as a clean build without it.
    pub fn check(self, cargo: &Cargo<'_>) -> Run {
        match self {
            Build::Works => cargo.same(),
            Build::Fails => cargo.same_failure(),
        }
    }
}

/// Assertions about what the journal says of a run.
pub trait Outcomes {
    /// Every unit was served from the store, and there was one.
    fn all_hit(&self) -> &Self;
    /// Macros and build scripts came as links or clones, and there was one. (Small files, and everything that its owner
    /// may write to, are copied.)
    fn shared(&self) -> &Self;
    /// Every event about `crate_name` has this outcome, and there is one.
    fn outcome(&self, crate_name: &str, outcome: &str) -> &Self;
    /// Nothing was served from the store for `crate_name`, and it was asked for.
    fn not_hit(&self, crate_name: &str) -> &Self;
    /// The only event about `crate_name` is a passthrough with this reason.
    fn bypassed(&self, crate_name: &str, reason: &str) -> &Self;
    /// The build script of `package` ran, or its result was put back, as often and in the order of these outcomes.
    fn script(&self, package: &str, outcomes: &[&str]) -> &Self;
}

impl Outcomes for Run {
    fn all_hit(&self) -> &Self {
        let others = self.events.iter().filter(|e| e.outcome != "hit" && e.kind != "seeding").count();
        assert!(others == 0 && self.tally().hits > 0, "{self}\nexpected nothing but hits");
        self
    }

    fn shared(&self) -> &Self {
        let is_one =
            |e: &&Event| e.mode == "build" && ["proc-macro", "build-script"].contains(&e.kind.as_str());
        let found: Vec<&Event> = self.events.iter().filter(is_one).collect();
        let bytes = |e: &Event, ways: [&str; 2]| -> u64 {
            ways.iter().map(|way| e.number(&format!("moved/{way}_bytes"))).sum()
        };
        let is_shared = |e: &&Event| bytes(e, ["linked", "reflinked"]) > bytes(e, ["copied", "kept"]);
        let told: Vec<_> = found.iter().map(|e| (&e.crate_name, &e.json["moved"])).collect();
        assert!(
            !found.is_empty() && found.iter().all(is_shared),
            "{self}\nexpected links or clones: {told:#?}"
        );
        self
    }

    fn outcome(&self, crate_name: &str, outcome: &str) -> &Self {
        let found = self.of(crate_name);
        assert!(
            !found.is_empty() && found.iter().all(|e| e.outcome == outcome),
            "{self}\nexpected {outcome} for {crate_name}"
        );
        self
    }

    fn not_hit(&self, crate_name: &str) -> &Self {
        let found = self.of(crate_name);
        assert!(
            !found.is_empty() && found.iter().all(|e| e.outcome != "hit"),
            "{self}\nexpected {crate_name} to be compiled"
        );
        self
    }

    fn script(&self, package: &str, outcomes: &[&str]) -> &Self {
        let found = self.tally().runs.remove(package).unwrap_or_default();
        assert_eq!(found, outcomes, "{self}\nunexpected runs of the build script of {package}");
        self
    }

    fn bypassed(&self, crate_name: &str, reason: &str) -> &Self {
        let event = self.one(crate_name);
        assert_eq!(
            (event.outcome.as_str(), event.reason.as_str()),
            ("passthrough", reason),
            "{self}\nunexpected outcome of {crate_name}"
        );
        self
    }
}
