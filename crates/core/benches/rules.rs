//! What each wrapper call computes, measured without disk and processes: `cargo bench -p kache-core`. CI compiles this and
//! doesn't run it: figures of a shared machine say nothing.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use kache_core::digest::Digest;
use kache_core::entry_key::{self, Rendering};
use kache_core::invocation::Invocation;
use kache_core::key::UnitKey;
use kache_core::paths::{Root, Roots};
use kache_core::record::{Input, InputRecord, Observed};
use kache_core::scan::Scanner;
use kache_core::unit::Unit;
use kache_core::unit_key::{self, KeyInputs};

const EXTERNS: usize = 40;
const OUTPUT_BYTES: usize = 4 << 20;

fn main() {
    divan::main();
}

/// A library with many dependencies, as Cargo has it compiled.
fn call() -> Invocation {
    let args = "--crate-name demo --edition=2024 src/lib.rs --error-format=json \
        --json=diagnostic-rendered-ansi,artifacts,future-incompat --crate-type lib --emit=dep-info,metadata,link \
        -C embed-bitcode=no -C debuginfo=2 -C metadata=0123456789abcdef -C extra-filename=-fedcba9876543210 \
        --out-dir /w/target/debug/deps -L dependency=/w/target/debug/deps --cap-lints allow";
    let mut args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
    for i in 0..EXTERNS {
        args.extend(["--extern".to_owned(), format!("dep{i}=/w/target/debug/deps/libdep{i}-{i:016x}.rmeta")]);
        args.extend(["--cfg".to_owned(), format!("feature=\"feature{i}\"")]);
    }
    let compiler = "/toolchain/bin/rustc".to_owned();
    Invocation { compiler, args, cwd: "/w".to_owned(), ..Invocation::default() }
}

fn roots() -> Roots {
    Roots::new([(Root::Workspace, "/w".to_owned()), (Root::Target, "/w/target".to_owned())])
}

#[divan::bench]
fn argument_parsing(bencher: Bencher) {
    let call = call();
    bencher.bench(|| Unit::parse(black_box(&call)));
}

#[divan::bench]
fn unit_key(bencher: Bencher) {
    let unit = Unit::parse(&call()).expect("a unit");
    let externs = (0..EXTERNS).map(|i| Some(Digest::of(&i.to_le_bytes()))).collect();
    let toolchain = Some(Digest::of(b"rustc"));
    let inputs =
        KeyInputs { roots: roots(), cwd: "/w".to_owned(), toolchain, externs, ..KeyInputs::default() };
    bencher.bench(|| unit_key::derive(black_box(&unit), black_box(&inputs)));
}

#[divan::bench(args = [10, 100, 1000])]
fn entry_key(bencher: Bencher, files: usize) {
    let inputs = (0..files).map(|i| Input::File(format!("{{ws}}/src/module{i}.rs"))).collect();
    let record = InputRecord { inputs, ..InputRecord::default() };
    let observed = vec![Observed::Content(Digest::of(b"content")); files];
    let (unit, roots) = (UnitKey(Digest::of(b"unit")), roots());
    bencher.bench(|| entry_key::derive(&unit, black_box(&record), &observed, &roots, &Rendering::default()));
}

/// One pass over an output without any local path in it, which is what most outputs are.
#[divan::bench]
fn path_scan(bencher: Bencher) {
    let roots = Roots::new([(Root::Workspace, "/home/someone/projects/demo".to_owned())]);
    let scanner = Scanner::new(&roots, &["/home/someone/.cargo"]);
    let output: Vec<u8> = (0..OUTPUT_BYTES as u64)
        .flat_map(|i| Digest::of(&i.to_le_bytes()).as_bytes()[..1].to_vec())
        .collect();
    bencher.counter(BytesCount::new(output.len())).bench(|| scanner.mentions(black_box(&output)));
}
