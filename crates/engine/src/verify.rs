//! Judges an entry by a compile that was done although there was a hit. A result that deviates makes the entry go; the
//! evidence stays in a memo and is shown to whoever asked for the verification.

use std::io::Read;
use std::path::Path;

use kache_core::entry::Entry;
use kache_core::key::EntryKey;
use kache_core::reason::{Miss, NotStored};
use kache_core::unit::Unit;
use kache_core::verify::{Deviation, deviations};
use kache_store::Store;
use serde_json::json;

/// Kind of the memos that keep the evidence.
const MEMO: &str = "mismatches";

/// Compares the entry with what the compile came to; what the journal is to say.
pub fn judge(
    store: &Store,
    unit: &Unit,
    (key, stored): (&EntryKey, &Entry),
    made: Result<&Entry, &NotStored>,
) -> Miss {
    let found = match made {
        Ok(made) => deviations(stored, made),
        Err(NotStored::Failed) => vec![Deviation::Fails],
        Err(why) => return Miss::Verify(format!("it could not be compared: {why}")),
    };
    if found.is_empty() {
        return Miss::Verify("it is the same".to_owned());
    }
    let details: Vec<String> = found.iter().map(|deviation| detail(store, unit, deviation)).collect();
    let evidence = json!({
        "version": 1,
        "key": key,
        "crate": unit.crate_name,
        "deviations": details,
        "stored": stored,
        "made": made.ok(),
    });
    if let Err(error) = store.memo_put(MEMO, &key.0, evidence.to_string().as_bytes()) {
        tracing::warn!(%error, "the evidence is lost");
    }
    if let Err(error) = store.drop_entry(key) {
        tracing::warn!(%error, "an entry that deviates stays");
    }
    let text = details.join("; ");
    // Asked for, unlike everything else that the wrapper could say.
    eprintln!("kache: verification of {}: {text}; the entry {} is dropped", unit.crate_name, key.0.short());
    Miss::VerifyMismatch(text)
}

/// A deviation, with the place of the first byte that differs.
fn detail(store: &Store, unit: &Unit, deviation: &Deviation) -> String {
    let place = match deviation {
        Deviation::Content { stored, made } => {
            let made = Path::new(&unit.out_dir).join(&made.name);
            first_difference(&store.blob_path(&stored.digest), &made)
        }
        _ => None,
    };
    place.map_or_else(|| deviation.to_string(), |at| format!("{deviation}, from byte {at} on"))
}

/// Where two files begin to differ; `None` when they don't, or can't be read.
fn first_difference(a: &Path, b: &Path) -> Option<u64> {
    let open = |path: &Path| std::fs::File::open(path).ok().map(std::io::BufReader::new);
    let (mut a, mut b) = (open(a)?.bytes(), open(b)?.bytes());
    for at in 0.. {
        match (a.next(), b.next()) {
            (None, None) => return None,
            (Some(Ok(x)), Some(Ok(y))) if x == y => {}
            (Some(Err(_)), _) | (_, Some(Err(_))) => return None,
            _ => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference() {
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |name: &str, content: &str| {
            std::fs::write(dir.path().join(name), content).expect("write");
            dir.path().join(name)
        };
        let base = write("base", "abcdef");
        for (content, want) in
            [("abcdef", None), ("abXdef", Some(2)), ("abc", Some(3)), ("abcdefg", Some(6)), ("", Some(0))]
        {
            assert_eq!(first_difference(&base, &write("other", content)), want, "{content}");
        }
        assert_eq!(first_difference(&base, &dir.path().join("none")), None);
    }
}
