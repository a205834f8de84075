use super::*;
use crate::link::set_mtime_of;
use crate::testing::Bench;
use kache_core::record::InputRecord;

fn used(bench: &Bench, key: &EntryKey) -> FileTime {
    FileTime::modified(&std::fs::metadata(bench.store.entry_path(key)).expect("stat"))
}

#[test]
fn an_entry_comes_back_with_its_evidence_until_it_is_dropped() {
    let bench = Bench::new();
    let (key, entry) = bench.publish("demo", b"content");
    assert_eq!(bench.store.entry(&key).expect("readable").as_ref(), Some(&entry));
    assert_eq!(bench.store.peek_entry(&key).expect("readable").as_ref(), Some(&entry));
    assert_eq!(bench.store.evidence(&key).expect("readable"), Some(Evidence::default()));
    let evidence = Evidence {
        crate_name: "demo".into(),
        record: InputRecord { rendered: true, ..InputRecord::default() },
        ..Evidence::default()
    };
    bench.store.publish(&key, &entry, &evidence).expect("replaced");
    assert_eq!(bench.store.evidence(&key).expect("readable"), Some(evidence));
    let listed: Vec<EntryKey> = bench.store.entries().expect("listed").map(|stat| stat.key).collect();
    assert_eq!(listed, [key]);
    for _ in 0..2 {
        bench.store.drop_entry(&key).expect("dropped");
        assert_eq!(bench.store.entry(&key).expect("readable"), None);
        assert_eq!(bench.store.evidence(&key).expect("readable"), None);
    }
}

#[test]
fn publishing_counts_what_came_in() {
    let bench = Bench::new();
    let bytes = || bench.store.usage_estimate().expect("readable").bytes;
    bench.publish("a", b"12345");
    assert_eq!(bytes(), 5);
    bench.publish("b", b"12345");
    assert_eq!(bytes(), 5, "the same blob");
    bench.publish("c", b"123");
    assert_eq!(bytes(), 8);
}

#[test]
fn malformed_entries_are_removed_and_newer_ones_left_alone() {
    let bench = Bench::new();
    let (key, entry) = bench.publish("demo", b"content");
    let path = bench.store.entry_path(&key);
    let good = entry.encode();
    let newer = String::from_utf8(good.clone()).expect("text").replacen("\"version\":1", "\"version\":99", 1);
    let unsafe_name = String::from_utf8(good.clone()).expect("text").replace("libdemo", "../demo");
    let damaged = String::from_utf8(good.clone()).expect("text").replacen("demo", "demp", 1);
    let cases = [
        (newer.as_bytes(), true),
        (&b""[..], false),
        (damaged.as_bytes(), false),
        (&good[..good.len() / 2], false),
        (&vec![0; good.len()], false),
        (unsafe_name.as_bytes(), false),
    ];
    for (bytes, stays) in cases {
        std::fs::write(&path, bytes).expect("write");
        assert_eq!(bench.store.peek_entry(&key).expect("readable"), None);
        assert!(path.exists(), "looking removes nothing");
        assert_eq!(bench.store.entry(&key).expect("readable"), None);
        assert_eq!(path.exists(), stays, "{}", String::from_utf8_lossy(bytes));
    }
    let file = File::create(&path).expect("create");
    file.set_len(ENTRY_BYTES_MAX + 1).expect("sparse");
    assert_eq!(bench.store.entry(&key).expect("readable"), None);
    assert!(!path.exists());
}

#[test]
fn a_use_is_noted_once_a_minute() {
    let bench = Bench::new();
    let (key, _) = bench.publish("demo", b"content");
    let now_s = FileTime::now_coarse().seconds();
    for (ago_s, noted) in
        [(10, false), (50, false), (70, true), (1_000_000, true), (-50, false), (-90_000, true)]
    {
        set_mtime_of(&bench.store.entry_path(&key), now_s - ago_s).expect("utimes");
        bench.store.peek_entry(&key).expect("readable");
        assert_eq!(used(&bench, &key).seconds(), now_s - ago_s);
        bench.store.entry(&key).expect("readable").expect("there");
        assert_eq!(used(&bench, &key).seconds() != now_s - ago_s, noted, "{ago_s}");
    }
}

#[test]
fn an_entry_of_another_boot_is_checked_once() {
    let bench = Bench::new();
    let (key, mut entry) = bench.publish("demo", b"content");
    let blob = entry.outputs[0].digest;
    let text = bench.store.ingest_bytes(b"a long warning").expect("ingest");
    entry.stderr = kache_core::entry::Text::Blob(text);
    let with_boot = |boot: &str| with_boot(&entry, boot);
    let boot_of = || bench.store.peek_entry(&key).expect("readable").expect("there").boot;
    let cases = [("", ""), (&boot_id()[..], &boot_id()[..]), ("another", "")];
    for (before, after) in cases {
        bench.store.publish(&key, &with_boot(before), &Evidence::default()).expect("published");
        assert_eq!(bench.store.settle(&key, &with_boot(before)).expect("checked"), Settled::Trusted);
        assert_eq!(boot_of(), after, "{before:?}");
    }
    for broken in [blob, text] {
        bench.store.publish(&key, &with_boot("another"), &Evidence::default()).expect("published");
        let path = bench.store.blob_path(&broken);
        let content = std::fs::read(&path).expect("read");
        let meta = std::fs::metadata(&path).expect("stat");
        // What a power cut leaves: the right size and time, other bytes.
        std::fs::write(&path, vec![0; content.len()]).expect("write");
        set_mtime_of(&path, FileTime::modified(&meta).seconds()).expect("utimes");
        assert_eq!(
            bench.store.settle(&key, &with_boot("another")).expect("checked"),
            Settled::Broken(broken)
        );
        assert_eq!(boot_of(), "another");
        bench.store.drop_damaged(&broken).expect("removed");
        assert_eq!(
            bench.store.settle(&key, &with_boot("another")).expect("checked"),
            Settled::Broken(broken)
        );
        std::fs::write(&path, content).expect("write");
    }
}

#[test]
fn syncing_makes_entries_of_this_boot_durable() {
    let bench = Bench::new();
    let (key, entry) = bench.publish("demo", b"content");
    let (other, _) = bench.publish("other", b"content");
    for (key, boot) in [(&key, boot_id()), (&other, "another".to_owned())] {
        let entry = with_boot(&entry, &boot);
        bench.store.publish(key, &entry, &Evidence::default()).expect("published");
    }
    bench.store.make_durable(&[key, other, EntryKey(Digest::of(b"none"))]).expect("synced");
    let boot_of = |key| bench.store.peek_entry(key).expect("readable").expect("there").boot;
    if cfg!(target_os = "linux") {
        assert_eq!(boot_of(&key), "");
    }
    assert_eq!(boot_of(&other), "another", "what an earlier boot wrote may be lost already");
}

fn with_boot(entry: &Entry, boot: &str) -> Entry {
    let mut entry = entry.clone();
    entry.boot = boot.to_owned();
    entry
}
