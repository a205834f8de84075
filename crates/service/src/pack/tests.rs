//! Tests of packs: honest ones come back, odd ones leave nothing visible.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use kache_core::entry::Text;
use kache_core::provenance::Provenance;
use kache_core::remote::manifest::{Manifest, PackedBlob};

use super::*;
use crate::remote::memory::Memory;
use crate::testing::{Machine, Stored};
use crate::transfer::Policy;

pub const NOTE: Note<'static> = Note { session: "", provenance: Provenance::Unsigned };

pub fn machine() -> Machine {
    Machine::new(&Arc::new(Memory::new()), Policy::default())
}

pub fn packed(machine: &Machine, stored: &Stored, level: i32) -> Packed {
    let evidence = machine.store().evidence(&stored.key).expect("readable").expect("kept");
    pack(machine.store(), &stored.key, &stored.entry, &evidence, level).expect("packed")
}

/// The members of an honest pack.
fn members(packed: &Packed) -> Vec<(String, Vec<u8>)> {
    let decoder = zstd::Decoder::new(packed.scratch.reopen().expect("open")).expect("zstd");
    let mut archive = tar::Archive::new(decoder);
    let mut members = Vec::new();
    for entry in archive.entries().expect("tar") {
        let mut entry = entry.expect("a member");
        let name = entry.path().expect("a name").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("content");
        members.push((name, bytes));
    }
    members
}

/// A pack of these members, and a manifest that describes exactly this pack.
fn forge(
    honest: &Manifest,
    members: &[(String, tar::EntryType, Vec<u8>)],
) -> (tempfile::NamedTempFile, Manifest) {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, bytes.as_slice()).expect("appended");
    }
    let tar = tar.into_inner().expect("tar");
    let bytes = zstd::encode_all(tar.as_slice(), 1).expect("zstd");
    let mut file = tempfile::NamedTempFile::new().expect("file");
    file.write_all(&bytes).expect("written");
    let mut manifest = honest.clone();
    manifest.pack.digest = kache_core::digest::Digest::of(&bytes);
    manifest.pack.size = bytes.len() as u64;
    manifest.pack.unpacked_size = tar.len() as u64;
    (file, manifest)
}

fn regular(members: Vec<(String, Vec<u8>)>) -> Vec<(String, tar::EntryType, Vec<u8>)> {
    members.into_iter().map(|(name, bytes)| (name, tar::EntryType::Regular, bytes)).collect()
}

#[test]
fn an_entry_comes_back_whole_at_every_level() {
    for level in [1, 3, 19, 22] {
        let (here, there) = (machine(), machine());
        let stored = here.compile("demo", &b"object code ".repeat(50_000), b"warning", &["X"]);
        let packed = packed(&here, &stored, level);
        assert!(packed.manifest.pack.size < packed.manifest.pack.unpacked_size / 10);
        let file = packed.scratch.reopen().expect("open");
        let unpacked = unpack(there.store(), &packed.manifest, file, &NOTE).expect("unpacked");
        assert_eq!(unpacked.new_bytes, 600_000 + 7);
        let entry = there.store().entry(&stored.key).expect("readable").expect("visible");
        assert_eq!((&entry.outputs, &entry.stderr), (&stored.entry.outputs, &stored.entry.stderr));
        let records = there.store().records(&stored.unit).expect("readable").records;
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].last, Some(stored.key));
        let Text::Blob(stderr) = entry.stderr else { panic!("a blob") };
        assert_eq!(
            there.store().read_blob(&stderr, 100).expect("readable").as_deref(),
            Some(&b"warning"[..])
        );
        let state = there.store().check_blob(&entry.outputs[0]).expect("looked");
        assert_eq!(state, kache_store::blobs::BlobState::Present);
    }
}

#[test]
fn a_blob_that_is_here_keeps_its_time_and_the_entry_follows() {
    let (here, there) = (machine(), machine());
    let stored = here.compile("demo", b"same", b"m", &[]);
    let before = there.store().ingest_bytes(b"same").expect("a text with the same bytes");
    assert_eq!(before, stored.entry.outputs[0].digest);
    let packed = packed(&here, &stored, 3);
    unpack(there.store(), &packed.manifest, packed.scratch.reopen().expect("open"), &NOTE).expect("unpacked");
    let entry = there.store().entry(&stored.key).expect("readable").expect("visible");
    assert_eq!(entry.outputs[0].mtime_s, kache_store::blobs::TEXT_MTIME_S);
    let state = there.store().check_blob(&entry.outputs[0]).expect("looked");
    // The text's permissions are put right when the entry is served.
    assert_eq!(state, kache_store::blobs::BlobState::OtherMode);
}

type Members = Vec<(String, tar::EntryType, Vec<u8>)>;
type Change = Box<dyn Fn(&mut Members, &mut Manifest)>;

/// Changes the text of the entry.
fn edit(members: &mut Members, from: &str, to: &str) {
    let text = String::from_utf8(members[0].2.clone()).expect("JSON");
    assert!(text.contains(from), "{text}");
    members[0].2 = text.replace(from, to).into_bytes();
}

#[test]
fn hostile_packs_are_refused_and_leave_nothing_visible() {
    use tar::EntryType;
    let here = machine();
    let stored = here.compile("demo", b"object code", b"warning", &[]);
    let other = here.compile("other", b"other code", b"warning", &[]);
    let (honest, foreign) = (packed(&here, &stored, 3), packed(&here, &other, 3));
    let foreign_members = regular(members(&foreign));
    let cases: Vec<(&str, Change)> = vec![
        ("no entry", Box::new(|m, _| drop(m.remove(0)))),
        ("no evidence", Box::new(|m, _| drop(m.remove(1)))),
        ("no blob", Box::new(|m, _| drop(m.pop()))),
        ("one too many", Box::new(|m, _| m.push(m[2].clone()))),
        ("wrong bytes", Box::new(|m, _| m[2].2[0] ^= 1)),
        ("short bytes", Box::new(|m, _| m[2].2 = b"object cod".to_vec())),
        ("long bytes", Box::new(|m, _| m[2].2.push(0))),
        ("traversal", Box::new(|m, _| m[2].0 = "../../../../tmp/evil".into())),
        ("absolute", Box::new(|m, _| m[2].0 = "/tmp/evil".into())),
        ("symbolic link", Box::new(|m, _| m[2].1 = EntryType::Symlink)),
        ("hard link", Box::new(|m, _| m[2].1 = EntryType::Link)),
        ("device", Box::new(|m, _| m[2].1 = EntryType::Block)),
        ("folder", Box::new(|m, _| m[2].1 = EntryType::Directory)),
        ("long name", Box::new(|m, _| m[2].1 = EntryType::GNULongName)),
        ("pax", Box::new(|m, _| m[0].1 = EntryType::XGlobalHeader)),
        ("sparse", Box::new(|m, _| m[2].1 = EntryType::GNUSparse)),
        ("no JSON", Box::new(|m, _| m[0].2 = b"{".to_vec())),
        ("evidence of nothing", Box::new(|m, _| m[1].2 = b"{}".to_vec())),
        ("another entry", Box::new(move |m, _| m.clone_from(&foreign_members))),
        ("another key", Box::new(|_, m| m.key = kache_core::key::EntryKey(m.pack.digest))),
        ("more than announced", Box::new(|_, m| m.pack.unpacked_size = 1000)),
        ("other package", Box::new(|_, m| m.package = "liblzma".into())),
        ("blobs in another order", Box::new(|_, m| m.blobs.reverse())),
        ("sizes", Box::new(|_, m| m.blobs[0].size += 1)),
        ("no blobs", Box::new(|_, m| m.blobs.clear())),
        (
            "a blob twice",
            Box::new(|_, m| {
                let first: PackedBlob = m.blobs[0];
                m.blobs.push(first);
            }),
        ),
        ("name of an output", Box::new(|m, _| edit(m, "libdemo.rlib", "../demo.rlib"))),
        ("time of an output", Box::new(|m, _| edit(m, "1704067203", "99999999999"))),
    ];
    for (what, change) in cases {
        let there = machine();
        let mut forged = regular(members(&honest));
        let mut manifest = honest.manifest.clone();
        change(&mut forged, &mut manifest);
        let announced = manifest.pack.unpacked_size;
        let (file, described) = forge(&manifest, &forged);
        let described = if announced == 1000 { with_unpacked(described, 1000) } else { described };
        let result = unpack(there.store(), &described, file.reopen().expect("open"), &NOTE);
        assert!(
            matches!(result, Err(UnpackError::Refused(_) | UnpackError::Mismatch(_))),
            "{what}: {result:?}"
        );
        assert_eq!(there.store().entry_count().expect("counted"), 0, "{what}");
        assert!(there.store().records(&stored.unit).expect("readable").records.is_empty(), "{what}");
    }
}

fn with_unpacked(mut manifest: Manifest, bytes: u64) -> Manifest {
    manifest.pack.unpacked_size = bytes;
    manifest
}

#[test]
fn truncated_swapped_and_foreign_bytes_are_refused() {
    let here = machine();
    let stored = here.compile("demo", &b"object code ".repeat(1000), b"warning", &[]);
    let honest = packed(&here, &stored, 3);
    let bytes = std::fs::read(honest.scratch.path()).expect("read");
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    let bomb = zstd::encode_all(std::io::repeat(0).take(64 << 20), 19).expect("zstd");
    for wrong in [&bytes[..bytes.len() - 1], b"", b"not zstd at all", &flipped, &bomb] {
        // As it is, and with a manifest that describes it.
        for described in [false, true] {
            let there = machine();
            let mut manifest = honest.manifest.clone();
            if described {
                manifest.pack.digest = kache_core::digest::Digest::of(wrong);
                manifest.pack.size = wrong.len() as u64;
            }
            let mut file = tempfile::NamedTempFile::new().expect("file");
            file.write_all(wrong).expect("written");
            let result = unpack(there.store(), &manifest, File::open(file.path()).expect("open"), &NOTE);
            assert!(matches!(result, Err(UnpackError::Refused(_))), "{result:?}");
            assert_eq!(there.store().entry_count().expect("counted"), 0);
        }
    }
}

#[test]
fn an_incomplete_entry_is_not_packed() {
    let here = machine();
    let stored = here.compile("demo", b"object code", b"warning", &[]);
    let evidence = here.store().evidence(&stored.key).expect("readable").expect("kept");
    here.store().drop_damaged(&stored.entry.outputs[0].digest).expect("removed");
    let result = pack(here.store(), &stored.key, &stored.entry, &evidence, 3);
    assert!(matches!(result, Err(PackError::Incomplete(..))));
}

/// A blob that is gone is about the entry; one that can't be read at the moment isn't.
#[test]
fn only_what_is_about_the_entry_makes_it_incomplete() {
    let machine = machine();
    let stored = machine.compile("demo", b"object code", b"", &[]);
    let evidence = machine.store().evidence(&stored.key).expect("readable").expect("kept");
    let again = || pack(machine.store(), &stored.key, &stored.entry, &evidence, 3);
    let path = machine.store().blob_path(&stored.entry.outputs[0].digest);
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(again(), Err(PackError::Incomplete(..))));
    // Leads nowhere, with an error that isn't absence.
    std::os::unix::fs::symlink(&path, &path).expect("linked");
    assert!(matches!(again(), Err(PackError::Write(error)) if error.to_string().contains("v1/blobs/")));
}
