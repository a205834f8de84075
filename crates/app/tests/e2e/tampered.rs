//! Somebody has had his hands in the store: its small files are anything at all. Builds are right all the same, commands
//! say something and end. Damaged blobs and entries are in `outputs`, packs and frames in the service's own tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kache_testkit::{remove_tree, walk};

use crate::fixtures::PAIR;
use crate::support::lean_lab;

/// What becomes of a file.
type Act = fn(&Path);

const ACTS: &[(&str, Act)] = &[
    ("empty", |file| write(file, b"")),
    ("cut", |file| {
        let bytes = fs::read(file).unwrap_or_default();
        write(file, &bytes[..bytes.len() / 2]);
    }),
    ("no text", |file| write(file, &[0xff, 0, 0xfe, b'\n'].repeat(100))),
    ("null", |file| write(file, b"null")),
    ("nested", |file| write(file, &b"{\"version\":1,\"a\":".repeat(20_000))),
    ("large figures", |file| {
        write(file, br#"{"version":1,"records":[{"inputs":[{"file":""}],"last":1e999}]}"#)
    }),
    ("doubled", |file| {
        let bytes = fs::read(file).unwrap_or_default();
        write(file, &[&bytes[..], &bytes].concat());
    }),
    ("long", |file| {
        write(file, b"");
        let file = fs::File::options().write(true).open(file).expect("open");
        file.set_len(70 << 20).expect("make it long");
    }),
    ("a directory", |file| {
        remove_tree(file);
        fs::create_dir(file).expect("make a directory");
        write(&file.join("x"), b"x");
    }),
    ("a link to itself", |file| {
        remove_tree(file);
        symlink(file, file).expect("link");
    }),
    ("a link to nothing", |file| {
        remove_tree(file);
        symlink("/dev/null", file).expect("link");
    }),
    ("gone", remove_tree),
];

fn write(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap_or_else(|e| panic!("write {}: {e}", file.display()));
}

const PARTS: &[&str] = &[
    "v1/entries",
    "v1/evidence",
    "v1/units",
    "v1/usage",
    "memo",
    "journal",
    "queue",
    "locks",
    "CACHEDIR.TAG",
];

#[test]
fn small_files_are_anything() {
    for (what, act) in ACTS {
        let lab = lean_lab().spoil();
        let p = lab.project("w", PAIR);
        p.cargo("run").ok();
        for part in PARTS {
            let path = lab.cache_dir().join(part);
            let files = if path.is_dir() { walk(&path) } else { vec![path] };
            files.iter().filter(|file| file.exists()).for_each(|file| act(file));
        }
        for args in
            ["stats", "list", "why-miss dep", "report", "gc --dry-run", "gc", "doctor --verify --repair"]
        {
            let words: Vec<&str> = args.split(' ').collect();
            let output = lab.cli(&words);
            let code = output.status.code();
            assert!(code.is_some_and(|code| code != 101), "{what}: kache {args}: {output:?}");
        }
        p.wipe();
        p.cargo("run").same();
        p.nothing_to_do("build");
        p.edit("dep/src/lib.rs", "1", "2");
        p.cargo("run").same();
        p.nothing_to_do("build");
    }
}
