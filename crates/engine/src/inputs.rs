//! Observes the inputs that a record names: digests of files and directories, values of variables. Each input is
//! looked at once in an invocation. Does not decide anything.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use kache_core::digest::Digest;
use kache_core::entry_key::{self, Rendering};
use kache_core::invocation::Env;
use kache_core::key::{EntryKey, Field, KeyWriter, UnitKey};
use kache_core::paths::Roots;
use kache_core::record::{Input, InputRecord, Observed};
use kache_store::clock::FileTime;
use kache_store::hashing::DigestMemo;
use kache_store::layout::Store;

use crate::macro_env;
use crate::outside;
use crate::toolchain::find_program;
use crate::world::value_digest;

/// Longest file that is read only because something looked whether it is there, in bytes.
const PROBED_BYTES_MAX: u64 = 1 << 20;

/// Most that records which weren't made here may have read for one invocation, in bytes: a record can name any file.
const FOREIGN_BYTES_MAX: u64 = 256 << 20;

/// Looks inputs up and remembers what it saw.
pub struct Observer<'a> {
    store: &'a Store,
    env: &'a Env,
    roots: &'a Roots,
    seen: RefCell<HashMap<Input, Option<Observed>>>,
    /// What is left of [`FOREIGN_BYTES_MAX`].
    foreign_bytes: Cell<u64>,
}

impl<'a> Observer<'a> {
    pub fn new(store: &'a Store, env: &'a Env, roots: &'a Roots) -> Self {
        Self { store, env, roots, seen: RefCell::default(), foreign_bytes: Cell::new(FOREIGN_BYTES_MAX) }
    }

    /// The key under which a unit's result with these inputs is found, with its fields; `Err` names the first input that
    /// can't be looked at here.
    pub fn entry_key<'i>(
        &self,
        unit: &UnitKey,
        record: &'i InputRecord,
        rendering: &Rendering,
    ) -> Result<(EntryKey, Vec<Field>), &'i Input> {
        if !record.provenance.is_here() {
            self.afford(record)?;
        }
        self.recall_outside(record);
        let observed = record.inputs.iter().map(|input| self.observe(input).ok_or(input));
        let observed = observed.collect::<Result<Vec<_>, _>>()?;
        Ok(entry_key::derive(unit, record, &observed, self.roots, rendering))
    }

    /// Whether the inputs of a record from elsewhere may still be read; `Err` names the one that is too much.
    fn afford<'i>(&self, record: &'i InputRecord) -> Result<(), &'i Input> {
        let memo = DigestMemo::new(self.store);
        let mut left = self.foreign_bytes.get();
        for input in record.inputs.iter().filter(|input| !self.seen.borrow().contains_key(*input)) {
            let (Input::File(name)
            | Input::Probe(name)
            | Input::MacroEnv(name)
            | Input::PortableMacroEnv(name)) = input
            else {
                continue;
            };
            let Some(path) = self.roots.path_of(name) else { continue };
            let bytes = match memo.unread_bytes(Path::new(&path)) {
                bytes if matches!(input, Input::Probe(_)) && bytes > PROBED_BYTES_MAX => 0,
                bytes => bytes,
            };
            left = left.checked_sub(bytes).ok_or(input)?;
        }
        self.foreign_bytes.set(left);
        Ok(())
    }

    /// Looks at the record's inputs outside the project and Cargo's directories, all at once.
    fn recall_outside(&self, record: &InputRecord) {
        let inputs = outside::of(record, self.roots);
        let inputs: Vec<_> =
            inputs.into_iter().filter(|(input, _)| !self.seen.borrow().contains_key(*input)).collect();
        let values = outside::recall(self.store, &inputs, |input| self.look(input));
        let seen = inputs.into_iter().zip(values).map(|((input, _), value)| (input.clone(), value));
        self.seen.borrow_mut().extend(seen);
    }

    /// What one input looks like; `None` when that can't be known here.
    pub fn observe(&self, input: &Input) -> Option<Observed> {
        if let Some(seen) = self.seen.borrow().get(input) {
            return *seen;
        }
        let observed = self.look(input);
        self.seen.borrow_mut().insert(input.clone(), observed);
        observed
    }

    fn look(&self, input: &Input) -> Option<Observed> {
        let content = |digest: Option<Digest>| digest.map_or(Observed::Absent, Observed::Content);
        let memo = DigestMemo::new(self.store);
        match input {
            Input::File(name) => {
                let path = self.roots.path_of(name)?;
                match memo.digest(Path::new(&path)) {
                    Ok(digest) => Some(content(digest)),
                    // A directory where a file was read is neither that file nor its absence.
                    Err(_) => {
                        Path::new(&path).is_dir().then(|| Observed::Content(Digest::of(b"a directory")))
                    }
                }
            }
            Input::Probe(name) => Some(self.presence(Path::new(&self.roots.path_of(name)?))),
            Input::Program(name) => {
                let found = find_program(self.env, "/", name);
                let content = found.as_deref().and_then(|path| memo.digest(path).ok().flatten());
                let place = found.as_deref().and_then(Path::to_str).map(|path| self.roots.name_of(path));
                Some(place.zip(content).map_or(Observed::Absent, |(place, content)| {
                    let mut key = KeyWriter::new("program");
                    key.text("place", place);
                    key.digest("content", content);
                    Observed::Content(key.finish().0)
                }))
            }
            Input::Dir(name) => Some(content(listing_digest(Path::new(&self.roots.path_of(name)?)))),
            Input::Link(name) => {
                let leads_to = fs::read_link(self.roots.path_of(name)?).ok();
                Some(content(leads_to.map(|path| value_digest(path.as_os_str(), self.roots))))
            }
            Input::Env(name) => {
                Some(content(self.env.get(name).map(|value| value_digest(value, self.roots))))
            }
            Input::MacroEnv(name) => Some(Observed::Content(macro_env::digest_of(&self.variables_of(name)?))),
            Input::PortableMacroEnv(name) => {
                let variables = self.variables_of(name)?;
                Some(Observed::Content(macro_env::portable_digest_of(&variables, self.roots)))
            }
        }
    }

    /// What a look at a path shows. Its time is left out where the content says more: it differs between checkouts.
    fn presence(&self, path: &Path) -> Observed {
        let Ok(meta) = fs::metadata(path) else { return Observed::Absent };
        if meta.is_dir() {
            return Observed::Content(Digest::of(b"a directory"));
        }
        let short = meta.is_file() && meta.len() <= PROBED_BYTES_MAX;
        let content = short.then(|| DigestMemo::new(self.store).digest(path).ok().flatten()).flatten();
        Observed::Content(content.unwrap_or_else(|| {
            let mut key = KeyWriter::new("presence");
            key.text("size", meta.len().to_string());
            key.text("modified", format!("{:?}", FileTime::modified(&meta)));
            key.finish().0
        }))
    }

    /// The variables that a macro's library names, with their values.
    pub fn variables_of(&self, library: &str) -> Option<Vec<(&'a str, &'a OsStr)>> {
        macro_env::variables_of(self.store, self.env, self.roots, library)
    }
}

/// Digest of the names in a directory, and of what kind each is.
fn listing_digest(dir: &Path) -> Option<Digest> {
    let mut names: Vec<(Vec<u8>, bool)> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            (entry.file_name().as_encoded_bytes().to_vec(), is_dir)
        })
        .collect();
    names.sort();
    let mut key = KeyWriter::new("listing");
    for (name, is_dir) in names {
        key.digest(if is_dir { "dir" } else { "file" }, Digest::of(&name));
    }
    Some(key.finish().0)
}

#[cfg(test)]
mod tests {
    use kache_core::provenance::Provenance;

    use super::*;

    /// A record in a bucket may name whatever lies on this machine's disk.
    #[test]
    fn records_of_others_have_little_read() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(&dir.path().join("store")).expect("open");
        let file = |name: &str, size: u64| {
            let path = dir.path().join(name);
            fs::File::create(&path).and_then(|file| file.set_len(size)).expect("made");
            path.to_str().expect("UTF-8").to_owned()
        };
        let (huge, half) = (file("huge", FOREIGN_BYTES_MAX + 1), file("half", FOREIGN_BYTES_MAX / 2 + 1));
        let (env, roots) = (Env::default(), Roots::default());
        let unit = UnitKey(Digest::of(b"u"));
        let of = |input: Input, provenance: &Provenance| InputRecord {
            inputs: vec![input],
            provenance: provenance.clone(),
            ..InputRecord::default()
        };
        let foreign = [Provenance::Unsigned, Provenance::Unknown, Provenance::Signed("ab".to_owned())];
        for provenance in &foreign {
            for input in [Input::File(huge.clone()), Input::MacroEnv(huge.clone())] {
                let observer = Observer::new(&store, &env, &roots);
                let record = of(input.clone(), provenance);
                let refused = observer.entry_key(&unit, &record, &Rendering::default());
                assert_eq!(refused.err(), Some(&input), "{provenance}");
            }
        }
        // Several add up, and what is only looked for is never read.
        let observer = Observer::new(&store, &env, &roots);
        observer.afford(&of(Input::Probe(huge.clone()), &foreign[0])).expect("not read");
        observer.afford(&of(Input::File(half.clone()), &foreign[0])).expect("within bounds");
        observer.afford(&of(Input::MacroEnv(half.clone()), &foreign[0])).expect_err("more than all may");
        // What this machine's own compile read is looked at whatever its size, and once it is known costs nothing.
        let observer = Observer::new(&store, &env, &roots);
        let small = Input::File(file("small", 1 << 20));
        let own = of(small.clone(), &Provenance::Here);
        observer.entry_key(&unit, &own, &Rendering::default()).expect("looked at");
        assert_eq!(observer.foreign_bytes.get(), FOREIGN_BYTES_MAX);
        observer.afford(&of(small, &foreign[0])).expect("known");
        assert_eq!(observer.foreign_bytes.get(), FOREIGN_BYTES_MAX);
    }
}
