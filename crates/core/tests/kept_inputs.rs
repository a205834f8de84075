//! Every input that the fuzzers' corpora keep goes through the function that it was made for: `fuzz/README.md`.

#![expect(clippy::disallowed_methods, reason = "the inputs are files")]

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use targets::{TARGETS, Target};

/// The inputs of a target: one of its seeds in each file, and one of its corpus in each line, as hexadecimal digits.
fn inputs(fuzz: &Path, (name, _): &Target) -> Vec<Vec<u8>> {
    let seeds = fs::read_dir(fuzz.join("seeds").join(name)).expect("every target has seeds");
    let mut inputs: Vec<Vec<u8>> =
        seeds.map(|seed| fs::read(seed.expect("listed").path()).expect("readable")).collect();
    let corpus = fs::read_to_string(fuzz.join("corpora").join(format!("{name}.hex")))
        .expect("every target has a corpus");
    inputs.extend(corpus.lines().map(bytes_of));
    inputs
}

fn bytes_of(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("digits"))
        .collect()
}

#[test]
fn nothing_kept_makes_a_target_panic() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    for target in TARGETS {
        let inputs = inputs(&fuzz, target);
        assert!(!inputs.is_empty(), "{} has no inputs", target.0);
        for (number, input) in inputs.iter().enumerate() {
            if std::panic::catch_unwind(|| target.1(input)).is_err() {
                panic!("input {number} of {}: {}", target.0, input.escape_ascii());
            }
        }
    }
}

/// A target that is in the table and nowhere else is never run; one that isn't in it is never replayed.
#[test]
fn every_target_is_a_program() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let in_table: BTreeSet<String> = TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    let programs = fs::read_dir(fuzz.join("fuzz_targets")).expect("there");
    let programs: BTreeSet<String> =
        programs.map(|file| file.expect("listed").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(in_table, programs);
}
