//! What keeps a store in shape while nobody builds: eviction, and reading back what a power cut may have hurt. Done in a
//! thread of the lowest priority, a piece at a time. Decides nothing that `kache gc` would decide otherwise.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kache_core::key::EntryKey;
use kache_store::clock::{boot_id, since_1970};
use kache_store::entries::Settled;
use kache_store::evict::SweepOptions;
use kache_store::sweep::Sweeping;
use kache_store::{Error, Store};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub evicted: u64,
    /// Entries of earlier boots that were read back.
    pub verified: u64,
    /// Of these, entries that were broken and are dropped.
    pub broken: u64,
    /// Entries of this boot that are known to be on stable storage now.
    pub secured: u64,
    pub forgotten: u64,
}

/// Does everything that is due. Ends early, between two steps, once `stop` is set.
///
/// # Errors
/// When the store can't be listed; what was done before is done.
pub fn run(store: &Store, limit_bytes: u64, stop: &AtomicBool) -> Result<Done, Error> {
    let mut done = Done::default();
    sweep(store, limit_bytes, &mut done)?;
    forget_orphaned_uploads(store, &mut done)?;
    verify(store, stop, &mut done)?;
    store.rotate_journal_if_full()?;
    Ok(done)
}

fn sweep(store: &Store, limit_bytes: u64, done: &mut Done) -> Result<(), Error> {
    let now_s = since_1970().as_secs();
    if store.is_room_low() || store.usage_estimate()?.is_sweep_due(limit_bytes, now_s) {
        let options = SweepOptions::keeping(limit_bytes, store.room());
        if let Sweeping::Done(report) = store.sweep(&options)? {
            done.evicted = report.entries;
        }
    }
    Ok(())
}

/// Uploads whose entries were evicted will never be done. However old, the others wait for their remote; those of
/// entries that only a newer kache understands wait for that.
fn forget_orphaned_uploads(store: &Store, done: &mut Done) -> Result<(), Error> {
    for owed in store.owed_uploads(None)? {
        if !store.has_entry(&owed.key) {
            store.strike_upload(&owed)?;
            done.forgotten += 1;
        }
    }
    Ok(())
}

/// Entries of earlier boots are read back one by one, so that no build has to; those of this boot are made safe from a
/// power cut together.
fn verify(store: &Store, stop: &AtomicBool, done: &mut Done) -> Result<(), Error> {
    let mut of_this_boot: Vec<EntryKey> = Vec::new();
    for stat in store.entries()? {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(entry) = store.peek_entry(&stat.key)? else { continue };
        if entry.boot == boot_id() {
            of_this_boot.push(stat.key);
        } else if !entry.boot.is_empty() {
            done.verified += 1;
            if let Settled::Broken(_) = store.settle(&stat.key, &entry)? {
                store.drop_entry(&stat.key)?;
                done.broken += 1;
            }
        }
    }
    if !of_this_boot.is_empty() {
        store.make_durable(&of_this_boot)?;
        done.secured = of_this_boot.len() as u64;
    }
    Ok(())
}

/// How long nobody may have asked for anything before upkeep begins.
pub const QUIET: Duration = Duration::from_secs(60);
pub const PAUSE: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use kache_core::digest::Digest;
    use kache_core::entry::{Entry, Evidence, Text};
    use kache_core::key::UnitKey;

    use super::*;

    fn key(name: &str) -> EntryKey {
        EntryKey(Digest::of(name.as_bytes()))
    }

    fn publish(store: &Store, name: &str, boot: &str) -> Digest {
        let blob = store.ingest_bytes(name.as_bytes()).expect("a blob");
        let mut entry = Entry::new(UnitKey(Digest::of(b"u")), "demo");
        entry.dep_info_name = "demo.d".into();
        entry.stderr = Text::Blob(blob);
        entry.boot = boot.to_owned();
        store.publish(&key(name), &entry, &Evidence::default()).expect("published");
        blob
    }

    #[test]
    fn what_a_power_cut_may_have_hurt_is_read_back_and_the_rest_made_safe() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        publish(&store, "whole", "an earlier boot");
        let torn = publish(&store, "torn", "an earlier boot");
        let hurt = publish(&store, "hurt", "an earlier boot");
        publish(&store, "new", &boot_id());
        std::fs::write(store.blob_path(&torn), "").expect("torn");
        // The length is right and the time, too: as when blocks never got to the disk.
        let path = store.blob_path(&hurt);
        let meta = std::fs::metadata(&path).expect("there");
        std::fs::write(&path, vec![0; usize::try_from(meta.len()).expect("short")]).expect("hurt");
        let file = std::fs::File::options().write(true).open(&path).expect("open");
        file.set_modified(meta.modified().expect("a time")).expect("dated");
        let remote = Digest::of(b"r");
        for name in ["new", "evicted"] {
            store.owe_upload(&key(name), &remote).expect("queued");
        }
        let stop = AtomicBool::new(false);
        let done = run(&store, u64::MAX, &stop).expect("done");
        assert_eq!((done.verified, done.broken, done.forgotten), (3, 2, 1), "{done:?}");
        let boot = |name: &str| store.peek_entry(&key(name)).expect("readable").map(|entry| entry.boot);
        assert_eq!(boot("whole").as_deref(), Some(""));
        assert_eq!((boot("torn"), boot("hurt")), (None, None));
        if cfg!(target_os = "linux") {
            assert_eq!(boot("new").as_deref(), Some(""));
        }
        let again = run(&store, u64::MAX, &stop).expect("done");
        assert_eq!((again.verified, again.forgotten), (0, 0), "nothing is left to do");
        assert_eq!(store.owed_uploads(None).expect("listed").len(), 1);
    }

    /// However long a remote is away, and whoever wrote the entry.
    #[test]
    fn old_uploads_and_those_of_a_newer_kache_are_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        for name in ["old", "newer"] {
            publish(&store, name, "");
            store.owe_upload(&key(name), &Digest::of(b"r")).expect("queued");
        }
        let entry = std::fs::read_to_string(store.entry_path(&key("newer"))).expect("an entry");
        let newer = entry.replacen("\"version\":1", "\"version\":99", 1);
        assert_ne!(newer, entry);
        std::fs::write(store.entry_path(&key("newer")), newer).expect("written");
        assert!(store.peek_entry(&key("newer")).expect("readable").is_none());
        let long_ago = SystemTime::now() - Duration::from_secs(400 * 86_400);
        for item in std::fs::read_dir(store.queue_dir()).expect("a queue").flatten() {
            let file = std::fs::File::options().write(true).open(item.path()).expect("open");
            file.set_modified(long_ago).expect("dated");
        }
        let done = run(&store, u64::MAX, &AtomicBool::new(false)).expect("done");
        assert_eq!(done.forgotten, 0);
        assert_eq!(store.owed_uploads(None).expect("listed").len(), 2);
    }

    #[test]
    fn it_stops_when_told() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        publish(&store, "a", "an earlier boot");
        let done = run(&store, u64::MAX, &AtomicBool::new(true)).expect("done");
        assert_eq!(done.verified, 0);
    }
}
