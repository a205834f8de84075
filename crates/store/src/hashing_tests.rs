use super::*;
use crate::blobs::IngestHow;
use crate::link::set_mtime_of;
use crate::testing::{BLOB_S, Bench};
use std::fs;

const BIG: usize = 64 << 10;

fn big(fill: u8) -> Vec<u8> {
    vec![fill; BIG]
}

fn digest(bench: &Bench, path: &Path) -> Option<Digest> {
    DigestMemo::new(&bench.store).digest(path).expect("readable")
}

/// What the inode's memo says, read back without judging.
fn recall(path: &Path) -> Remembered {
    inode_memo::recall(path, &fs::metadata(path).expect("stat"))
}

fn sidecars(bench: &Bench) -> Vec<std::path::PathBuf> {
    let survey = bench.store.survey().expect("surveyed");
    survey.memos.into_iter().map(|file| file.path).collect()
}

/// Whether the file system under test keeps attributes.
fn has_attributes(bench: &Bench) -> bool {
    let path = bench.write("probe", "x");
    let open = File::open(&path).expect("open");
    inode_memo::remember(&open, &open.metadata().expect("stat"), &Digest::of(b"x"), Redating::Never)
}

#[test]
fn hashing_reads_everything_and_nothing_but_files() {
    let bench = Bench::new();
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7] {
        let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).expect("small")).collect();
        let path = bench.write("f", &bytes);
        let expected = Hashed { digest: Digest::of(&bytes), size: len as u64 };
        assert_eq!(hash_file(&path).expect("readable"), expected);
        assert_eq!(digest(&bench, &path), Some(expected.digest));
    }
    let memo = DigestMemo::new(&bench.store);
    let socket = bench.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bind");
    for path in [bench.dir.path(), Path::new("/dev/null"), &socket] {
        memo.digest(path).expect_err("not a file");
    }
    assert!(hash_file(&bench.path("none")).expect_err("missing").is_missing());
    std::os::unix::fs::symlink(bench.path("nowhere"), bench.path("dangling")).expect("symlink");
    for absent in ["none", "f/below", "dangling"] {
        assert_eq!(digest(&bench, &bench.path(absent)), None, "{absent}");
    }
}

#[test]
fn a_blob_and_its_links_are_remembered_on_the_inode() {
    for bench in Bench::everywhere().into_iter().filter(has_attributes) {
        let file = bench.write("f", big(1));
        bench.ingest(&file, IngestHow::Clone);
        let content = Digest::of(&big(1));
        let blob = bench.store.blob_path(&content);
        assert_eq!(recall(&blob), Remembered::Trusted(content));
        let link = bench.path("link");
        fs::hard_link(&blob, &link).expect("link");
        assert_eq!(recall(&link), Remembered::Trusted(content));
        fs::write(&link, big(2)).expect("write");
        assert_eq!(recall(&link), Remembered::Nothing);
        assert_eq!(digest(&bench, &link), Some(Digest::of(&big(2))));
    }
}

#[test]
fn a_young_file_is_not_blessed() {
    let bench = Bench::new();
    if !has_attributes(&bench) {
        return;
    }
    let file = bench.write("f", big(1));
    let content = Digest::of(&big(1));
    let memo = DigestMemo::new(&bench.store);
    assert_eq!(memo.remember(&file, &content).expect("open"), Blessing::Refused);
    set_mtime_of(&file, BLOB_S).expect("utimes");
    assert_eq!(memo.remember(&file, &content).expect("open"), Blessing::Remembered);
    assert_eq!(recall(&file), Remembered::Trusted(content));
}

#[test]
fn a_memo_of_an_earlier_boot_is_read_back_once() {
    let bench = Bench::new();
    if !has_attributes(&bench) {
        return;
    }
    for (torn, content) in [(false, big(1)), (true, big(0))] {
        let file = bench.write("f", &content);
        set_mtime_of(&file, BLOB_S).expect("utimes");
        let open = File::open(&file).expect("open");
        let meta = open.metadata().expect("stat");
        inode_memo::remember_under("an earlier boot", &open, &meta, &Digest::of(&big(1)), Redating::Never);
        assert_eq!(recall(&file), Remembered::EarlierBoot(Digest::of(&big(1))));
        let real = Digest::of(&content);
        assert_eq!(digest(&bench, &file), Some(real));
        let expected = if torn { Remembered::Nothing } else { Remembered::Trusted(real) };
        assert_eq!(recall(&file), expected);
    }
}

#[test]
fn foreign_files_are_remembered_beside_once_they_have_settled() {
    let bench = Bench::new();
    let path = bench.write("f", big(1));
    set_mtime_of(&path, BLOB_S).expect("utimes");
    assert_eq!(digest(&bench, &path), Some(Digest::of(&big(1))));
    assert_eq!(sidecars(&bench), Vec::<std::path::PathBuf>::new(), "its ctime is young");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(digest(&bench, &path), Some(Digest::of(&big(1))));
    assert_eq!(recall(&path), Remembered::Nothing, "no attributes on files that aren't ours");
    let [sidecar] = &sidecars(&bench)[..] else { panic!("one memo") };
    // A wrong memo proves that it is what is read.
    let lie = Digest::of(b"lie");
    fs::write(sidecar, lie.as_bytes()).expect("write");
    assert_eq!(digest(&bench, &path), Some(lie));
    fs::write(sidecar, b"torn").expect("write");
    assert_eq!(digest(&bench, &path), Some(Digest::of(&big(1))));
    // Same size, same mtime, same inode: only the ctime tells.
    fs::write(&path, big(2)).expect("write");
    set_mtime_of(&path, BLOB_S).expect("utimes");
    assert_eq!(digest(&bench, &path), Some(Digest::of(&big(2))));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Act {
        /// Look, which may put down a memo.
        Digest,
        /// Bless with the right digest, as kache does for files that it put there.
        Bless,
        /// Take the file over into the store.
        Ingest,
        WriteInPlace(u8),
        WriteAt(u16, u8),
        Append,
        Truncate,
        Touch,
        Backdate(i64),
        Replace(u8),
        /// Replaced by a copy of itself with all attributes and the mtime, then possibly edited under that mtime.
        CopyWithAttributes(Option<u8>),
    }

    fn any_act() -> impl Strategy<Value = Act> {
        prop_oneof![
            Just(Act::Digest),
            Just(Act::Bless),
            Just(Act::Ingest),
            any::<u8>().prop_map(Act::WriteInPlace),
            (any::<u16>(), any::<u8>()).prop_map(|(at, fill)| Act::WriteAt(at, fill)),
            Just(Act::Append),
            Just(Act::Truncate),
            Just(Act::Touch),
            (0..5i64).prop_map(Act::Backdate),
            any::<u8>().prop_map(Act::Replace),
            proptest::option::of(any::<u8>()).prop_map(Act::CopyWithAttributes),
        ]
    }

    /// Does one thing to the file. Backdating comes with new content only where a memo could not be left over from
    /// before: an edit in place that restores the very mtime is the one blind spot, and documented.
    fn perform(bench: &Bench, path: &Path, act: &Act, backdated: &mut i64) {
        use std::os::unix::fs::FileExt;
        let open = || File::options().read(true).write(true).open(path).expect("open");
        match act {
            Act::Digest => drop(digest(bench, path)),
            Act::Bless => {
                let content = Digest::of(&fs::read(path).expect("read"));
                DigestMemo::new(&bench.store).remember(path, &content).expect("open");
            }
            Act::Ingest => drop(bench.ingest(path, IngestHow::Link)),
            Act::WriteInPlace(fill) => open().write_all_at(&big(*fill), 0).expect("write"),
            Act::WriteAt(at, fill) => open().write_all_at(&[*fill], u64::from(*at)).expect("write"),
            Act::Append => {
                let len = fs::metadata(path).expect("stat").len();
                open().write_all_at(b"more", len).expect("write");
            }
            Act::Truncate => open().set_len(BIG as u64).expect("truncate"),
            Act::Touch => crate::clock::set_mtime_now(&open()).expect("touch"),
            Act::Backdate(by) => {
                *backdated += 1 + by;
                set_mtime_of(path, 1000 + *backdated).expect("utimes");
            }
            Act::Replace(fill) => {
                let next = bench.write("next", big(*fill));
                fs::rename(next, path).expect("rename");
            }
            Act::CopyWithAttributes(edit) => {
                let meta = fs::metadata(path).expect("stat");
                let next = bench.path("next");
                fs::copy(path, &next).expect("copy");
                inode_memo::copy_raw(path, &next);
                let copy = File::options().write(true).open(&next).expect("open");
                if let Some(fill) = edit {
                    copy.write_all_at(&[*fill], 5).expect("write");
                }
                copy.set_modified(meta.modified().expect("mtime")).expect("utimes");
                fs::rename(next, path).expect("rename");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn whatever_happens_to_a_file_its_digest_is_that_of_its_content(
            acts in proptest::collection::vec(any_act(), 1..16),
        ) {
            let bench = Bench::new();
            let path = bench.write("f", big(0));
            let mut backdated = 0;
            for act in &acts {
                perform(&bench, &path, act, &mut backdated);
                let real = Digest::of(&fs::read(&path).expect("read"));
                prop_assert_eq!(digest(&bench, &path), Some(real), "after {:?}", act);
            }
        }
    }
}
