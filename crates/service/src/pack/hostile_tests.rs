//! Packs with random damage inside: below the compression's and the manifest's checksums, which whoever can write to the
//! bucket can make fit. Whatever comes of them, nothing panics, and what gets into the store is whole.
//!
//! `KACHE_FUZZ_ROUNDS` says how many; the number of a round fixes its damage.

use std::io::Write;

use kache_core::digest::Digest;
use kache_core::entry::is_safe_name;
use kache_core::remote::manifest::Manifest;
use kache_store::blobs::BlobState;
use kache_store::verify::{Checksums, Problem};

use super::tests::{NOTE, machine, packed};
use super::{UnpackError, unpack};
use crate::testing::Random;

const ROUNDS: u64 = 1500;
/// A tar stream consists of these.
const BLOCK: usize = 512;

/// One blow to a tar stream.
fn damage(tar: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(tar.len());
    let block = at / BLOCK * BLOCK;
    match random.below(8) {
        0 => tar[at] ^= 1 << random.below(8),
        1 => tar.truncate(at),
        2 => tar.truncate(block.max(BLOCK)),
        3 => drop(tar.drain(block..(block + BLOCK).min(tar.len()))),
        4 => {
            let copy = tar[block..(block + BLOCK).min(tar.len())].to_vec();
            let to = random.below(tar.len()) / BLOCK * BLOCK;
            drop(tar.splice(to..to, copy));
        }
        5 => tar.extend(std::iter::repeat_n(0, random.below(4 * BLOCK))),
        6 => forge_header(&mut tar[block..], random),
        _ => {
            let digit = b"0123456789abcdef{}[]\",:.-/\\"[random.below(27)];
            tar[at] = digit;
        }
    }
}

/// Takes a block for a member's header, changes a field of it, and makes its checksum right.
fn forge_header(block: &mut [u8], random: &mut Random) {
    let Some(bytes) = block.first_chunk_mut::<BLOCK>() else { return };
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(bytes);
    match random.below(4) {
        0 => header.set_size(u64::from(random.number()) << random.below(32)),
        1 => header.set_entry_type(tar::EntryType::new(b"01234567gxLKSMV\0 "[random.below(17)])),
        2 => {
            let name: &[u8] = [&b"../../x"[..], b"/etc/x", b"entry.json", b"blobs/", b""][random.below(5)];
            header.as_old_mut().name = [0; 100];
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
        }
        _ => header.as_mut_bytes()[random.below(BLOCK)] = random.byte(),
    }
    header.set_cksum();
    bytes.copy_from_slice(header.as_bytes());
}

/// A pack around a tar stream, and a manifest that fits; now and then it doesn't.
fn wrap(honest: &Manifest, tar: &[u8], random: &mut Random) -> (Vec<u8>, Manifest) {
    let mut bytes = zstd::encode_all(tar, 1).expect("zstd");
    if random.below(6) == 0 {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
    let mut manifest = honest.clone();
    manifest.pack.digest = Digest::of(&bytes);
    manifest.pack.size = bytes.len() as u64;
    manifest.pack.unpacked_size = tar.len() as u64;
    match random.below(10) {
        0 => manifest.pack.unpacked_size = u64::from(random.number()),
        1 => manifest.blobs[0].size = u64::from(random.number()),
        2 => manifest.blobs.reverse(),
        _ => {}
    }
    (bytes, manifest)
}

#[test]
fn damaged_packs_leave_a_whole_store() {
    let rounds = std::env::var("KACHE_FUZZ_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("a number"));
    let here = machine();
    let stored = here.compile("demo", &b"object code ".repeat(100), b"warning", &["X"]);
    let honest = packed(&here, &stored, 3);
    let whole = zstd::decode_all(honest.scratch.reopen().expect("open")).expect("zstd");
    let there = machine();
    let mut taken = 0;
    for round in 0..rounds {
        let random = &mut Random::new(round);
        let mut tar = whole.clone();
        for _ in 0..=random.below(3) {
            if !tar.is_empty() {
                damage(&mut tar, random);
            }
        }
        let (bytes, manifest) = wrap(&honest.manifest, &tar, random);
        let mut file = tempfile::NamedTempFile::new().expect("file");
        file.write_all(&bytes).expect("written");
        match unpack(there.store(), &manifest, file.reopen().expect("open"), &NOTE) {
            Ok(_) => {
                taken += 1;
                let entry = there.store().peek_entry(&stored.key).expect("readable").expect("visible");
                for output in &entry.outputs {
                    assert!(is_safe_name(&output.name), "round {round}: {}", output.name);
                    let state = there.store().check_blob(output).expect("looked at");
                    assert_eq!(state, BlobState::Present, "round {round}");
                }
                there.store().drop_entry(&stored.key).expect("dropped");
            }
            Err(UnpackError::Store(error)) => panic!("round {round}: {error}"),
            Err(_) => {
                let visible = there.store().entry_count().expect("counted");
                assert_eq!(visible, 0, "round {round}");
            }
        }
    }
    assert!(taken < rounds, "nothing was damaged");
    let found = there.store().verify(Checksums::Read, &mut |_| {}).expect("looked through");
    let wrong: Vec<_> =
        found.problems.iter().filter(|problem| !matches!(problem, Problem::OrphanBlob(..))).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
