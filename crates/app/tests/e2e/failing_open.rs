//! Trouble inside the cache becomes a real compile and a counted reason: the build goes on, with the same result.

use std::fs;

use kache_testkit::toolchain;

use crate::fixtures::{ALL_KINDS, PAIR};
use crate::support::{Lab, Outcomes, lab, lean_lab};

/// Builds twice in a world whose cache is of no use, and expects what a clean build gives.
fn builds_all_the_same(lab: &Lab) {
    let p = lab.project("w", PAIR);
    for _ in 0..2 {
        p.cargo("run").same();
        p.nothing_to_do("build");
        p.wipe();
    }
}

/// B20: the cache directory can't be made: a file is in its way, or there is no such place.
#[test]
fn b20_cache_directory_cannot_be_made() {
    for place in ["occupied", "occupied/below"] {
        let lab = lean_lab();
        let dir = lab.write("occupied", "a file").parent().expect("a parent").join(place);
        builds_all_the_same(&lab.cache_at(dir));
    }
    builds_all_the_same(&lean_lab().cache_at("/proc/no/such/place"));
    builds_all_the_same(&lean_lab().cache_at(""));
    builds_all_the_same(&lean_lab().cache_at("relative/cache"));
}

/// B20: parts of the cache are files where directories should be, or the other way round.
#[test]
fn b20_cache_directory_is_a_mess() {
    for name in ["v1", "v1/blobs", "v1/entries", "v1/units", "journal", "memo", "queue"] {
        let lab = lean_lab().spoil();
        let p = lab.project("w", PAIR);
        p.cargo("run").ok();
        kache_testkit::remove_tree(&lab.cache_dir().join(name));
        lab.write(&format!("cache/{name}"), "a file");
        p.wipe();
        p.cargo("run").same();
        p.nothing_to_do("build");
    }
}

/// A wrapper for the rest that can't be used: builds go on without it, and the reason is counted. Names, links, scripts
/// and programs that are none.
#[test]
fn fallbacks_that_are_none_are_skipped() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let kache = lab.wrapper().display().to_string();
    let root = lab.root();
    let link = root.join("bin/kache");
    fs::create_dir_all(lab.root().join("bin")).expect("make a directory");
    std::os::unix::fs::symlink(&kache, &link).expect("link");
    let hard = root.join("bin/hard");
    if fs::hard_link(&kache, &hard).is_err() {
        fs::copy(&kache, &hard).expect("copy");
    }
    let again = lab.write_program("bin/again", format!("#!/bin/sh\nexec '{kache}' \"$@\"\n"));
    let below = lab.write_program("bin/below", format!("#!/bin/sh\n'{kache}' \"$@\" --cap-lints=warn\n"));
    let lost = lab.write_program("bin/lost", "#!/no/such/interpreter\n");
    let path = format!("{}:{}", lab.root().join("bin").display(), std::env::var("PATH").expect("PATH"));
    let cases = [
        ("kache", "is kache itself"),
        (link.to_str().expect("UTF-8"), "is kache itself"),
        (hard.to_str().expect("UTF-8"), "kache"),
        (again.to_str().expect("UTF-8"), "calls kache again"),
        ("again", "calls kache again"),
        (below.to_str().expect("UTF-8"), "calls kache again"),
        (lost.to_str().expect("UTF-8"), "can't be run"),
        ("no-such-wrapper", "there is no program"),
        ("/no/such/wrapper", "there is no program"),
        (root.to_str().expect("UTF-8"), "there is no program"),
    ];
    for (fallback, why) in cases {
        p.wipe();
        let env = [("KACHE_FALLBACK", fallback), ("KACHE_CACHE_EXECUTABLES", "0"), ("PATH", &path)];
        let run = p.cargo("run").envs(&env).same();
        let app: Vec<_> = run.of("app");
        let skipped = app.iter().find(|event| event.reason == "fallback");
        let detail = skipped.unwrap_or_else(|| panic!("{fallback}: {app:?}")).detail.clone();
        assert!(detail.contains(why) && detail.contains("cache_executables"), "{fallback}: {detail}");
        p.nothing_to_do("build");
        let mut doctor = lab.command(&kache);
        let said = doctor.arg("doctor").current_dir(p.dir()).envs(env).output().expect("kache runs");
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("cache.fallback`"));
        assert!(line.is_some_and(|line| line.contains("BAD") && line.contains(why)), "{text}");
        assert_eq!(said.status.code(), Some(3), "{text}");
    }
}

/// A wrapper for the rest gets what kache passes through, by its path or its name.
#[test]
fn fallbacks_get_what_is_passed_through() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let log = lab.root().join("calls");
    lab.write_program("bin/other", format!("#!/bin/sh\necho \"$*\" >>'{}'\nexec \"$@\"\n", log.display()));
    let path = format!("{}:{}", lab.root().join("bin").display(), std::env::var("PATH").expect("PATH"));
    for fallback in ["other", lab.root().join("bin/other").to_str().expect("UTF-8")] {
        p.wipe();
        let env = [("KACHE_FALLBACK", fallback), ("KACHE_CACHE_EXECUTABLES", "0"), ("PATH", &path)];
        let run = p.cargo("run").envs(&env).same();
        assert_eq!(run.one("app").reason, "executable");
        let calls = fs::read_to_string(&log).expect("called");
        assert!(calls.contains("--crate-name app") && !calls.contains("--crate-name dep"), "{calls}");
        fs::remove_file(&log).expect("remove");
    }
}

/// D20: what a newer version left is neither used nor touched.
#[test]
fn foreign_versions_are_left_alone() {
    let lab = lean_lab().spoil();
    let p = lab.project("w", PAIR);
    p.cargo("run").ok();
    let entries = lab.entries();
    for entry in &entries {
        let text = fs::read_to_string(entry).expect("read an entry");
        fs::write(entry, text.replace("\"version\":1", "\"version\":999")).expect("change an entry");
    }
    lab.write("cache/v999/blobs/x", "from the future");
    p.wipe();
    p.cargo("run").same().not_hit("dep");
    for entry in &entries {
        assert!(
            fs::read_to_string(entry).expect("still there").contains("999"),
            "{} was rewritten",
            entry.display()
        );
    }
    assert_eq!(fs::read(lab.cache_dir().join("v999/blobs/x")).expect("still there"), b"from the future");
}

/// B37: no `HOME`, no cache directory named: the build works.
#[test]
fn b37_no_home() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    for _ in 0..2 {
        let cargo = p.cargo("run").unset("HOME").unset("KACHE_CACHE_DIR").env("XDG_CACHE_HOME", "");
        let run = cargo.ok();
        assert_eq!(run.stdout, "1\n");
        p.wipe();
    }
}

/// B37: nothing but the target directory and the cache is written to: not the sources, not the working directory, not
/// `HOME`, not the temporary directory.
#[test]
fn b37_nothing_is_left_elsewhere() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("generate-lockfile").plain().ok();
    let look = || {
        let hidden = ["cache", "w/target"];
        kache_testkit::tree(&lab.root(), &hidden).into_keys().collect::<Vec<_>>()
    };
    p.cargo("build").plain().ok();
    let before = look();
    for _ in 0..2 {
        p.wipe();
        p.cargo("build").ok();
        assert_eq!(look(), before);
    }
}

/// B20, D16: a full disk under the cache; Cargo runs in a mount name space of its own where the cache is on a small
/// file system.
#[test]
fn d16_full_disk() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    let cache = lab.root().join("small");
    fs::create_dir(&cache).expect("make a directory");
    let script = format!(
        "set -e; mount -t tmpfs -o size=SIZE none {cache}; for i in 1 2; do rm -rf target; \"$0\" run -q; done; \
         \"$0\" build -q; umount {cache}",
        cache = cache.display()
    );
    for size in ["0k", "64k", "400k", "3m"] {
        let size = if size == "0k" { "4k" } else { size };
        let mut command = lab.command("unshare");
        command.args(["-rm", "/bin/sh", "-c", &script.replace("SIZE", size)]).arg(&toolchain().cargo);
        command.env("KACHE_CACHE_DIR", &cache).env("RUSTC_WRAPPER", lab.wrapper()).current_dir(p.dir());
        let output = command.output().expect("start unshare");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text == "14\n14\n", "{size}: {output:?}");
    }
}

/// R21: a read-only file system under the cache: hits are served, misses compiled.
#[test]
fn r21_read_only_cache() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("run").ok();
    let cache = lab.cache_dir().display().to_string();
    let script = format!(
        "set -e; mount --bind {cache} {cache}; mount -o remount,ro,bind {cache}; rm -rf target; \"$0\" run -q; \
         sed -i s/1/2/ dep/src/lib.rs; \"$0\" run -q; rm -rf target; \"$0\" run -q"
    );
    let mut command = lab.command("unshare");
    command.args(["-rm", "/bin/sh", "-c", &script]).arg(&toolchain().cargo);
    command.env("RUSTC_WRAPPER", lab.wrapper()).current_dir(p.dir());
    let output = command.output().expect("start unshare");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text == "1\n2\n2\n", "{output:?}");
}

/// R21, E9: whatever the umask when the store was filled, restored files have the usual permissions for this build's.
#[test]
fn r21_umask() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("run").shell("umask 077").ok();
    let two = one.checkout("two");
    two.cargo("run").shell("umask 022").ok().all_hit();
    for file in two.outputs(|name| name.ends_with(".rlib") || name.ends_with(".d") || name == "app") {
        let mode = file.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o600, 0o600, "{} is {mode:o}", file.display());
    }
    two.nothing_to_do("build");
    let mode = lab.cache_dir().metadata().expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the cache directory is {mode:o}");
}

/// B4, D3: restored files can be replaced and rewritten by their owner.
#[test]
fn b4_restored_files_are_writable() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("build").ok();
    one.cargo("check").ok();
    let two = one.checkout("two");
    two.cargo("build").ok().all_hit();
    two.cargo("check").ok().all_hit();
    for file in kache_testkit::walk(two.target()) {
        let mode = file.metadata().expect("metadata").permissions().mode();
        assert!(mode & 0o200 != 0, "{} is {mode:o}", file.display());
    }
    two.edit("gen/number.txt", "7", "8");
    two.cargo("check").plain().ok();
    two.cargo("run").plain().ok();
    two.cargo("run").same();
    one.nothing_to_do("build");
}

/// D15: few file descriptors.
#[test]
fn d15_few_file_descriptors() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    for _ in 0..2 {
        p.cargo("run").shell("ulimit -n 48").same();
        p.wipe();
    }
    p.cargo("run").same().all_hit();
}

/// D1, R15: restored programs, libraries and macros are edited in place by tools: the store doesn't notice.
#[test]
fn d1_tools_that_write_in_place() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("test --no-run").ok();
    one.cargo("build").ok();
    let two = one.checkout("two");
    two.cargo("test --no-run").ok().all_hit();
    two.cargo("build").ok().all_hit();
    let mut strip = lab.command("strip");
    let tests = two.compiled(|name| name.starts_with("it-") && !name.contains('.'));
    assert!(!tests.is_empty(), "there is a test");
    let status = strip.arg(two.path("target/debug/app")).args(tests).status();
    assert!(status.expect("start strip").success());
    lab.assert_store_is_sound();
    two.cargo("clean -p app").plain().ok();
    two.cargo("run").ok();
    one.nothing_to_do("build");
}

/// D2, R14: rustc rewrites `.d` files in place; the store's copy and other checkouts don't change.
#[test]
fn d2_dep_info_is_rewritten_in_place() {
    let lab = lab();
    let one = lab.project("one", PAIR);
    one.cargo("build").ok();
    let two = one.checkout("two");
    two.cargo("build").ok().all_hit();
    let before =
        one.outputs(|name| name.starts_with("dep-") && name.ends_with(".d")).pop().expect("a .d file");
    let text = fs::read_to_string(&before).expect("read");
    two.write("dep/src/extra.rs", "pub const N: i64 = 5;\n");
    two.write("dep/src/lib.rs", "mod extra;\npub fn value() -> i64 { extra::N }\n");
    two.cargo("run").plain().ok();
    assert_eq!(fs::read_to_string(&before).expect("read"), text);
    one.wipe();
    one.cargo("run").same().all_hit();
    one.nothing_to_do("build");
}

/// D6: after an unclean reboot, blobs that were never synced are checked before they are used.
#[test]
fn d6_entries_of_an_earlier_boot_are_checked() {
    let lab = lean_lab().spoil();
    let p = lab.project("w", PAIR);
    p.cargo("run").ok();
    lab.pretend_that_entries_are_of_an_earlier_boot();
    // Content changes, size and time don't.
    for blob in lab.blobs() {
        let time = blob.metadata().and_then(|data| data.modified()).expect("time");
        let mut bytes = fs::read(&blob).expect("read a blob");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&blob, bytes).expect("change a blob");
        fs::File::options().write(true).open(&blob).and_then(|f| f.set_modified(time)).expect("set the time");
    }
    p.wipe();
    p.cargo("run").same().not_hit("dep");
    lab.assert_store_is_sound();
    p.wipe();
    p.cargo("run").same().all_hit();
}
