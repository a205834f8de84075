//! Inputs outside the project and Cargo's directories: files of the system, tools, configuration. A linked unit has some
//! hundred of them, and they hardly ever change. So what they look like is remembered as a whole, under the stamps of all.
//! Does not know what they are to a compile.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kache_core::digest::Digest;
use kache_core::paths::{Root, Roots};
use kache_core::record::{Input, InputRecord, Observed};
use kache_store::Store;
use kache_store::clock::FileTime;
use kache_store::hashing::{Hasher, SETTLED_S};

/// Fewer inputs are looked at one by one.
const COUNT_MIN: usize = 8;
const MEMO: &str = "outside";
/// One remembered value: whether there was something, and its digest.
const VALUE_BYTES: usize = 1 + 32;

/// The inputs of a record that lie outside, with their paths; none where they are few.
pub fn of<'i>(record: &'i InputRecord, roots: &Roots) -> Vec<(&'i Input, String)> {
    let is_outside = |name: &str| name.starts_with('/') || name.starts_with(Root::Sysroot.name_prefix());
    let inputs = record.inputs.iter().filter_map(|input| {
        let (Input::File(name) | Input::Dir(name) | Input::Link(name) | Input::Probe(name)) = input else {
            return None;
        };
        Some((input, roots.path_of(name).filter(|_| is_outside(name))?))
    });
    let inputs: Vec<_> = inputs.collect();
    if inputs.len() < COUNT_MIN { Vec::new() } else { inputs }
}

/// What each of the inputs looks like: remembered where no stamp has changed, else by `look`.
pub fn recall(
    store: &Store,
    inputs: &[(&Input, String)],
    look: impl Fn(&Input) -> Option<Observed>,
) -> Vec<Option<Observed>> {
    if inputs.is_empty() {
        return Vec::new();
    }
    let mut names = Hasher::new();
    for (input, path) in inputs {
        names.update(format!("{input:?} {path}\0").as_bytes());
    }
    let name = names.finish();
    let stamps = Stamps::of(inputs);
    if let Some(bytes) = store.memo_get(MEMO, &name)
        && let Some((then, values)) = bytes.split_at_checked(32)
        && then == stamps.digest.as_bytes()
        && values.len() == inputs.len() * VALUE_BYTES
    {
        return values.chunks_exact(VALUE_BYTES).map(decode).collect();
    }
    let now = FileTime::now_coarse();
    let values: Vec<_> = inputs.iter().map(|(input, _)| look(input)).collect();
    // A stamp that is older than this can't stay the same at a change.
    let is_settled = stamps.newest.is_none_or(|newest| newest.age_s(now) >= SETTLED_S);
    if is_settled && values.iter().all(Option::is_some) && Stamps::of(inputs).digest == stamps.digest {
        let bytes = stamps.digest.as_bytes().iter().copied().chain(values.iter().flat_map(encode));
        // Without it the next look reads the files again.
        let _ = store.memo_put(MEMO, &name, &bytes.collect::<Vec<u8>>());
    }
    values
}

fn encode(value: &Option<Observed>) -> [u8; VALUE_BYTES] {
    let mut bytes = [0; VALUE_BYTES];
    if let Some(Observed::Content(digest)) = value {
        bytes[0] = 1;
        bytes[1..].copy_from_slice(digest.as_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Observed> {
    match bytes.split_first()? {
        (0, _) => Some(Observed::Absent),
        (_, digest) => Some(Observed::Content(Digest::from_bytes(<[u8; 32]>::try_from(digest).ok()?))),
    }
}

/// What changes when one of the inputs does: nobody can set a ctime.
struct Stamps {
    digest: Digest,
    newest: Option<FileTime>,
}

impl Stamps {
    fn of(inputs: &[(&Input, String)]) -> Self {
        let mut hasher = Hasher::new();
        let mut newest = None;
        for (input, path) in inputs {
            let path = Path::new(path);
            let is_link = matches!(input, Input::Link(_));
            let meta = if is_link { fs::symlink_metadata(path) } else { fs::metadata(path) };
            match meta {
                // Others change what is in it.
                Ok(meta) if meta.is_dir() && !matches!(input, Input::Dir(_)) => hasher.update(&[1]),
                Ok(meta) => {
                    add(&mut hasher, &meta);
                    newest = newest.max(Some(FileTime::changed(&meta).max(FileTime::modified(&meta))));
                }
                Err(error) => {
                    hasher.update(&[0]);
                    hasher.update(&error.raw_os_error().unwrap_or(-1).to_le_bytes());
                }
            }
        }
        Self { digest: hasher.finish(), newest }
    }
}

fn add(hasher: &mut Hasher, meta: &Metadata) {
    let mut bytes = Vec::with_capacity(8 * 8);
    for part in [meta.dev(), meta.ino(), meta.size(), u64::from(meta.mode())] {
        bytes.extend_from_slice(&part.to_le_bytes());
    }
    for part in [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()] {
        bytes.extend_from_slice(&part.to_le_bytes());
    }
    hasher.update(&bytes);
}
