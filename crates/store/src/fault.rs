//! Points at which a test can have this process killed, to see what a crash there leaves behind, or stopped, to do
//! something meanwhile. Knows neither the stories in which they are reached nor what has to hold afterwards.
//!
//! | build | what a point does |
//! | --- | --- |
//! | with debug assertions | where `KACHE_FAULT` is `<point>:<file>` and names it, whoever succeeds in removing the file dies by SIGKILL, or stops by SIGSTOP where `stop` is in it |
//! | release | nothing: it is an empty function, and the variable's name isn't in the program |
//!
//! The file is a trap for one process: of many that pass a point at the same time one removes it, and a file that is
//! gone proves that the point was reached. Debug assertions decide rather than a Cargo feature, because a feature that
//! only tests turn on would have every `cargo build` between two `cargo test` compile this crate and all above it.

macro_rules! points {
    ($($point:ident, $reached:literal;)*) => {
        /// A point, by what is done when it is reached.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $(#[doc = $reached] $point,)*
        }

        impl Point {
            pub const ALL: &[Point] = &[$(Point::$point),*];

            /// Its name in `KACHE_FAULT`.
            pub const fn name(self) -> &'static str {
                match self { $(Point::$point => stringify!($point)),* }
            }
        }
    };
}

points! {
    TmpWritten, "a small file is written under its temporary name";
    TmpRenamed, "a small file has its final name";
    BlobMade, "a blob's bytes are under a temporary name";
    BlobFinished, "the same, with permissions, time and memo";
    BlobAdmitted, "a blob has its final name, and still its temporary one";
    BlobReceived, "a blob from elsewhere is written and hashed";
    BlobRemoved, "a blob that was no good is gone, its entry isn't";
    EvidencePublished, "evidence is there, its entry isn't";
    EntryPublished, "an entry is there, the store's size doesn't count it";
    EntryDropped, "an entry is gone, its evidence isn't";
    EntrySettled, "an entry is rewritten as durable, and dated now";
    RecordsLocked, "the lock for a unit's records is held";
    RecordsPublished, "a unit's records are rewritten, the lock is held";
    JournalOpened, "the journal is open for appending";
    JournalAppended, "an event is in the journal";
    JournalRotated, "the full journal is put aside, no new one begun";
    UploadOwed, "an upload is in the queue";
    UploadDone, "an upload is done, and still in the queue";
    LedgerMade, "a ledger's directory is there, nothing is settled";
    LedgerBorn, "a ledger knows its directory's birth, no session is settled";
    MarkOpened, "a unit's mark is there and empty";
    MarkWritten, "a unit's mark is written";
    PlaceMade, "an output's content is in the target directory under a temporary name";
    Placed, "an output has its name in the target directory";
    TextMade, "a text is in the target directory under a temporary name";
    SweepPlanned, "a sweep knows what goes";
    EntryEvicted, "a sweep has removed an entry";
    BlobSwept, "a sweep has removed a blob";
    Swept, "a sweep has removed everything, the store's size isn't corrected";
    RepairBegun, "a repair has dropped an entry, its altered blob is there";
    OutputsCleared, "a unit's earlier outputs are gone, the compiler hasn't started";
    CompilerStarted, "the compiler runs";
    OutputReady, "the compiler has announced an output, Cargo hasn't heard of it";
    CompilerEnded, "the compiler has ended, nothing is stored";
    OutputsTaken, "all outputs are blobs, there is no entry";
    EntryStored, "entry and record are there, the ledger doesn't know";
    RestoreChecked, "an entry's contents are all there, none is placed";
    OutputPlaced, "an output of an entry is placed, others aren't";
    OutputsPlaced, "all outputs are placed, no message is replayed";
    Replayed, "messages are replayed, the ledger doesn't know";
    SnapshotReady, "a snapshot is put together and its entries are durable";
    SeedPlaced, "a seeded unit's outputs are placed, Cargo's fingerprint isn't";
    SeedUnproven, "all of a seeded unit but the hash that makes Cargo believe it";
    Seeded, "everything is seeded, Cargo hasn't looked";
    PackUploaded, "a pack is in the bucket, its manifest isn't";
    ManifestUploaded, "a manifest is in the bucket, the unit's records aren't";
    PackDownloaded, "a pack is here, nothing of it is in the store";
    PackUnpacked, "a pack's contents are blobs, there is no entry";
    PackPublished, "an entry from a pack is there, its record isn't";
    UnitDisowned, "a unit that is cleaned away has lost the hash that makes Cargo believe it, its outputs are there";
    UnitEmptied, "its outputs are gone too, the rest of its fingerprint is there";
    ProofBegun, "a pending proof counts one attempt more, nothing is compiled";
    ProofCompiling, "the compile elsewhere runs";
    ProofPublished, "the entry is there that fits every place, no record leads to it";
    ProofCompared, "a proof is made, and still pending";
    DaemonBound, "a daemon has the socket, and answers nobody yet";
}

/// Ends this process here where a test asks for it. See the module.
#[inline]
pub fn point(here: Point) {
    #[cfg(debug_assertions)]
    spring(here);
    #[cfg(not(debug_assertions))]
    let _ = here;
}

#[cfg(debug_assertions)]
fn spring(here: Point) {
    use kache_core::config::env::KACHE_FAULT;
    use rustix::process::{Signal, getpid, kill_process};

    let Some(order) = std::env::var_os(KACHE_FAULT) else { return };
    let Some((name, trap)) = order.to_str().and_then(|order| order.split_once(':')) else { return };
    if name != here.name() {
        return;
    }
    let stops = std::fs::read(trap).is_ok_and(|text| text == b"stop");
    if std::fs::remove_file(trap).is_ok() {
        let _ = kill_process(getpid(), if stops { Signal::STOP } else { Signal::KILL });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let mut names: Vec<_> = Point::ALL.iter().map(|point| point.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
