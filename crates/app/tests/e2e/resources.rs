//! What a machine may lack: room, inodes, rights, attributes, locks, a clock that goes forward. Whatever it is, builds
//! succeed and are what they are without kache. Full disks under whole Cargo builds, read-only stores, few descriptors,
//! umasks and a missing `HOME` are in `failing_open`, other file systems in `file_systems`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use kache_testkit::{FileSystem, Volume, copy_tree, walk};

use crate::fixtures::{ALL_KINDS, PAIR};
use crate::scripted::Direct;
use crate::support::{Lab, Outcomes, lean_lab, lean_lab_on};

/// A call of kache as Cargo's, in a name space of its own where the cache is a file system in memory with these mount
/// options; once into an empty store, and twice more with the outputs gone.
const IN_LITTLE_ROOM: &str = r#"
set -e
cache=$1 deps=$2 expected=$3 options=$4
shift 4
mount -t tmpfs -o "$options" none "$cache"
for turn in 1 2 3; do
    rm -f "$deps"/*
    "$@" 2>/dev/null
    for file in "$expected"/*; do cmp "$file" "$deps/${file##*/}"; done
done
umount "$cache"
"#;

/// Calls kache where the store has no more room than these mount options give it. The compiler is scripted, so that every
/// amount of room can be tried.
fn calls_with(options: impl IntoIterator<Item = String>) {
    let d = Direct::new();
    // Texts long enough to be blobs of their own.
    let long = "x".repeat(90 << 10);
    d.fake.script(
        "demo",
        &format!(
            "emit dep-info\nemit metadata\nannounce metadata\ndiagnostic warning {long}\nemit link\nannounce link\n"
        ),
    );
    let deps = d.out_dir("ws", "demo");
    let cache = d.lab.root().join("little");
    fs::create_dir(&cache).expect("make a directory");
    assert!(d.run("demo").status.success());
    let expected = d.lab.root().join("expected");
    copy_tree(&deps, &expected, &[".kache"]);
    let call = d.command("demo");
    for options in options {
        let mut command = d.lab.command("unshare");
        command.args(["-rm", "/bin/sh", "-c", IN_LITTLE_ROOM, "sh"]).args([&cache, &deps, &expected]);
        command.arg(&options).arg(call.get_program()).args(call.get_args());
        command.current_dir(d.lab.root().join("ws")).stdin(Stdio::null());
        command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("KACHE_CACHE_DIR", &cache);
        let output = command.output().expect("start unshare");
        assert!(output.status.success(), "{options}: {output:?}");
    }
}

/// Room for one page more each time: the disk becomes full at every write in turn.
#[test]
fn a_disk_that_is_full_at_each_write() {
    calls_with((1..90).map(|pages| format!("size={}k", pages * 4)));
}

/// The same with inodes: every file and directory in turn is the one that can't be made.
#[test]
fn no_inodes_left_at_each_creation() {
    calls_with((2..60).map(|inodes| format!("size=16m,nr_inodes={inodes}")));
}

/// A whole Cargo build where the store's file system is out of inodes soon.
#[test]
fn a_cargo_build_without_inodes() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    let cache = lab.root().join("little");
    fs::create_dir(&cache).expect("make a directory");
    let script = "set -e; mount -t tmpfs -o size=64m,nr_inodes=$2 none $1; for i in 1 2; do rm -rf target; \
                  \"$0\" run -q; done; \"$0\" build -q; umount $1";
    for inodes in ["16", "60", "120"] {
        let mut command = lab.command("unshare");
        command.args(["-rm", "/bin/sh", "-c", script]).arg(&kache_testkit::toolchain().cargo);
        command.arg(&cache).arg(inodes).env("KACHE_CACHE_DIR", &cache);
        let output =
            command.env("RUSTC_WRAPPER", lab.wrapper()).current_dir(p.dir()).output().expect("start unshare");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text == "14\n14\n", "{inodes}: {output:?}");
    }
}

/// A build of ten programs where the target directory and the cache are on one file system of this size; what `du` says
/// of the target directory, and the journal.
const ON_ONE_DISK: &str = r#"
set -e
disk=$1
mount -t tmpfs -o "size=$2" none "$disk"
"$0" build -q
for program in "$disk"/target/debug/p?; do "$program"; done
"$0" build -q
du -sk "$disk/target" | cut -f 1
cat "$disk"/cache/journal/*.jsonl 2>/dev/null || true
# A sweep may still be at it in the background.
umount -l "$disk"
"#;

/// Where plain Cargo has room enough, so has kache, whose copies of programs would take as much again: it stops making
/// them, and gives up what it has when a compile finds no room.
#[test]
fn a_disk_shared_with_the_target_directory() {
    let lab = lean_lab();
    let p = lab.project(
        "w",
        &[("Cargo.toml", "[package]\nname = \"w\"\nversion = \"0.1.0\"\nedition = \"2024\"\n")],
    );
    let mut random = 1u32;
    for i in 0..10 {
        let main = format!(
            "static BULK: &[u8] = include_bytes!(\"p{i}.bulk\");\n\
             fn main() {{ std::process::exit(i32::from(std::hint::black_box(BULK).len() != 4 << 20)); }}\n"
        );
        let bulk = std::iter::repeat_with(|| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random.to_be_bytes()[0]
        });
        p.write_now(&format!("src/bin/p{i}.rs"), main);
        p.write_now(&format!("src/bin/p{i}.bulk"), bulk.take(4 << 20).collect::<Vec<u8>>());
    }
    let disk = lab.root().join("disk");
    fs::create_dir(&disk).expect("make a directory");
    let build = |size_kib: u64, wrapper: Option<&Path>| {
        let mut command = lab.command("unshare");
        command.args(["-rm", "/bin/sh", "-c", ON_ONE_DISK]).arg(&kache_testkit::toolchain().cargo).arg(&disk);
        command.arg(format!("{size_kib}k")).current_dir(p.dir());
        command.env("CARGO_TARGET_DIR", disk.join("target")).env("KACHE_CACHE_DIR", disk.join("cache"));
        // With two at a time, what one takes for a moment may be what Cargo wants to write for the other.
        command.env("CARGO_BUILD_JOBS", "1");
        command.envs(wrapper.map(|wrapper| ("RUSTC_WRAPPER", wrapper)));
        let output = command.output().expect("start unshare");
        assert!(output.status.success(), "{size_kib} KiB: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{size_kib} KiB");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (target_kib, journal) = text.split_once('\n').expect("a figure");
        (target_kib.parse::<u64>().expect("a number"), journal.to_owned())
    };
    let (needed_kib, _) = build(1 << 20, None);
    // What the linker makes is there twice for a moment.
    let little = needed_kib + (12 << 10);
    build(little, None);
    let (_, journal) = build(little, Some(lab.wrapper()));
    assert!(journal.contains("\"disk-full:"), "{journal}");
}

/// Few descriptors for commands, on a store that fills all of its folders.
#[test]
fn commands_with_few_descriptors() {
    let lab = lean_lab().spoil();
    let p = lab.project("w", PAIR);
    p.cargo("build").ok();
    for (shelf, files) in [("blobs", lab.blobs()), ("entries", lab.entries())] {
        for number in 0..256 {
            let name = format!("{number:02x}{}", "0".repeat(62));
            let folder = lab.cache_dir().join("v1").join(shelf).join(&name[..2]);
            fs::create_dir_all(&folder).expect("make a folder");
            fs::copy(&files[0], folder.join(name)).expect("copy a file");
        }
    }
    for args in
        ["list", "stats", "doctor --verify", "gc", "gc --dry-run", "purge -y", "why-miss dep", "report"]
    {
        let mut command = lab.command("/bin/sh");
        command.args(["-c", &format!("ulimit -n 32; \"$0\" {args}")]).arg(lab.wrapper()).current_dir(p.dir());
        let output = command.output().expect("start a shell");
        // Doctor finds that the copied blobs have other names.
        let fine = output.status.success() || args.starts_with("doctor");
        assert!(
            fine && !String::from_utf8_lossy(&output.stderr).contains("open files"),
            "{args}: {output:?}"
        );
    }
}

/// Whether this process may become another user; where it may not, only CI minds.
fn may_become_another() -> bool {
    let may = rustix::process::geteuid().is_root();
    assert!(may || std::env::var("CI").is_err(), "CI has to run this as root");
    if !may {
        eprintln!("SKIPPED: only root can become another user");
    }
    may
}

/// Somebody without any rights of ours.
const NOBODY: u32 = 65_534;

/// Runs a call as that user.
fn as_nobody(call: &Command, program: &Path) -> Output {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    command.arg("--").arg(program).args(call.get_args()).env_clear().stdin(Stdio::null());
    command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = call.get_current_dir() {
        command.current_dir(dir);
    }
    command.output().expect("start setpriv")
}

fn set_modes(dir: &Path, dirs: u32, files: u32) {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        fs::set_permissions(&dir, fs::Permissions::from_mode(dirs)).expect("set the mode of a directory");
        for item in fs::read_dir(&dir).expect("list").flatten() {
            match item.file_type().expect("a type") {
                kind if kind.is_dir() => open.push(item.path()),
                kind if kind.is_file() => {
                    let mode = item.metadata().expect("metadata").mode() & 0o111 | files;
                    fs::set_permissions(item.path(), fs::Permissions::from_mode(mode)).expect("set a mode");
                }
                _ => {}
            }
        }
    }
}

/// Another user's store: closed, only readable, or open to all. Its owner's builds go on as well.
#[test]
fn another_users_store() {
    if !may_become_another() {
        return;
    }
    let d = Direct::new();
    assert!(d.run("demo").status.success());
    d.add_checkout("two");
    let program = d.lab.root().join("kache");
    fs::copy(d.lab.wrapper(), &program).expect("copy kache");
    let call = d.command_in("two", "demo");
    let library = d.library("two");
    let expected = fs::read(d.library("ws"));
    let expected = expected.expect("built");
    set_modes(&d.lab.root(), 0o777, 0o666);
    for (dirs, files) in [(0o700, 0o600), (0o755, 0o644), (0o777, 0o666)] {
        set_modes(d.lab.cache_dir(), dirs, files);
        for content in ["pub fn f() {}\n", "pub fn f() -> u32 { 1 }\n"] {
            d.lab.write("two/src/lib.rs", content);
            kache_testkit::settle();
            for _ in 0..2 {
                let _ = fs::remove_file(&library);
                let output = as_nobody(&call, &program);
                assert!(output.status.success(), "{dirs:o}: {output:?}");
                let made = fs::read(&library).expect("a library");
                assert_eq!(made == expected, content == "pub fn f() {}\n", "{dirs:o}: another one's content");
                assert_eq!(fs::metadata(&library).expect("there").uid(), NOBODY, "{dirs:o}");
            }
        }
        d.wipe();
        assert!(d.run("demo").status.success());
    }
}

/// Root builds in a user's store, as `sudo -E cargo build` does: what root leaves is the user's, who goes on with it.
#[test]
fn root_in_a_users_store() {
    if !may_become_another() {
        return;
    }
    for is_new in [false, true] {
        let d = Direct::new();
        if !is_new {
            assert!(d.run("demo").status.success());
        }
        let program = d.lab.root().join("kache");
        fs::copy(d.lab.wrapper(), &program).expect("copy kache");
        set_modes(&d.lab.root(), 0o777, 0o666);
        let owner = |path: &Path| fs::symlink_metadata(path).expect("there").uid();
        let cache = d.lab.cache_dir().to_owned();
        let give = |path: &Path| std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
        if is_new {
            give(cache.parent().expect("a folder"));
        } else {
            kache_testkit::tree(&cache, &[]).keys().for_each(|file| give(&cache.join(file)));
            dirs_below(&cache).iter().for_each(|dir| give(dir));
        }
        // A unit that the user had, and one that root is the first to compile.
        for content in ["pub fn f() {}\n", "pub fn f() -> u32 { 1 }\n"] {
            d.lab.write("ws/src/lib.rs", content);
            kache_testkit::settle();
            d.wipe();
            assert!(d.run("demo").status.success());
        }
        assert_eq!(owner(&d.library("ws")), 0, "what root has compiled is root's");
        let files = walk(&cache).into_iter().chain(dirs_below(&cache));
        let roots: Vec<_> = files.filter(|path| owner(path) != NOBODY).collect();
        assert!(roots.is_empty(), "{roots:?}");
        let mark = d.lab.mark();
        d.add_checkout("two");
        d.lab.write("two/src/lib.rs", "pub fn f() -> u32 { 1 }\n");
        let call = d.command_in("two", "demo");
        set_modes(&d.lab.root().join("two"), 0o777, 0o666);
        let output = as_nobody(&call, &program);
        assert!(output.status.success(), "{output:?}");
        let events = d.lab.events_since(&mark);
        assert!(events.iter().all(|event| event.outcome == "hit") && !events.is_empty(), "{events:?}");
        for args in ["gc", "list", "stats", "purge -y"] {
            let mut call = d.lab.command(&program);
            call.args(args.split(' '));
            let output = as_nobody(&call, &program);
            assert!(output.status.success(), "{args}: {output:?}");
        }
    }
}

/// Folders that root has made in a user's store, closed to the user: commands do what they can without, and say so.
#[test]
fn commands_leave_out_what_another_user_has_made() {
    if !may_become_another() {
        return;
    }
    let d = Direct::new();
    assert!(d.run("demo").status.success());
    let program = d.lab.root().join("kache");
    fs::copy(d.lab.wrapper(), &program).expect("copy kache");
    set_modes(&d.lab.root(), 0o777, 0o666);
    let cache = d.lab.cache_dir().to_owned();
    for path in walk(&cache).into_iter().chain(dirs_below(&cache)) {
        std::os::unix::fs::lchown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    let roots = ["blobs/00", "entries/00", "evidence/00", "units/00"].map(|name| cache.join("v1").join(name));
    for (number, dir) in roots.iter().enumerate() {
        fs::create_dir_all(dir).expect("make a directory");
        fs::write(dir.join(format!("{number:064}")), "x").expect("write");
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).expect("chmod");
    }
    for args in ["list", "stats", "gc --dry-run", "gc", "doctor", "purge -y", "list"] {
        let mut call = d.lab.command(&program);
        call.args(args.split(' '));
        let output = as_nobody(&call, &program);
        let said = format!("{output:?}");
        let is_doctor = args == "doctor";
        assert_eq!(output.status.code(), Some(if is_doctor { 3 } else { 0 }), "{args}: {said}");
        assert!(said.contains("belong to another user") && said.contains("/00"), "{args}: {said}");
    }
    assert!(roots.iter().all(|dir| fs::read_dir(dir).expect("list").count() == 1), "they were left alone");
    assert_eq!(d.lab.entries().len(), 1, "what the user could see is gone, root's is there");
    roots.iter().for_each(|dir| fs::remove_dir_all(dir).expect("remove"));
}

/// A directory and all directories below it.
fn dirs_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        let items = fs::read_dir(dir).expect("list").flatten();
        found.extend(
            items.filter(|item| item.file_type().is_ok_and(|kind| kind.is_dir())).map(|item| item.path()),
        );
        next += 1;
    }
    found
}

/// No extended attributes: digests are remembered otherwise, or found again.
#[test]
fn a_file_system_without_extended_attributes() {
    let Some(volume) = Volume::mount(FileSystem::Ramfs) else { return };
    let lab = lean_lab_on(&volume.root());
    let one = lab.project("one", ALL_KINDS);
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("run").same().all_hit();
    two.edit("gen/number.txt", "7", "8");
    two.cargo("run").same();
    two.edit("gen/number.txt", "8", "7");
    two.cargo("run").same();
    for p in [&one, &two] {
        p.nothing_to_do("build");
    }
    lab.assert_doctor_is_content();
}

/// Moves every file that was written in the last hour by some seconds, which for whoever looks at it is what setting the
/// clock the other way does.
fn shift(lab: &Lab, seconds: i64) {
    let now = SystemTime::now();
    let by = Duration::from_secs(seconds.unsigned_abs());
    for path in walk(&lab.root()) {
        // Links lead out of the sandbox.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let Ok(time) = meta.modified() else { continue };
        if !meta.is_file() {
            continue;
        }
        // Times that kache has chosen are long past, whatever the clock says.
        if now.duration_since(time).is_ok_and(|age| age < Duration::from_secs(3600)) {
            let to = if seconds < 0 { time - by } else { time + by };
            fs::File::open(&path).and_then(|file| file.set_modified(to)).expect("set a time");
        }
    }
}

/// The clock was set back by two days, or forward by three hundred: what is there is from the future, or very old.
#[test]
fn a_clock_that_was_set() {
    for seconds in [2 * 86_400, -300 * 86_400] {
        let lab = lean_lab();
        let one = lab.project("one", ALL_KINDS);
        one.cargo("run").same();
        let two = one.checkout("two");
        two.cargo("run").same().all_hit();
        shift(&lab, seconds);
        for p in [&one, &two] {
            p.nothing_to_do("build");
            p.wipe();
            p.cargo("run").same();
            // Sources from the future are newer than any build, for Cargo alone as well.
            if seconds < 0 {
                p.nothing_to_do("build");
            }
        }
        assert!(lab.cli(&["gc", "--max-age", "3000d"]).status.success());
        let three = one.checkout("three");
        three.cargo("run").same();
        three.edit("gen/number.txt", "7", "8");
        three.cargo("run").same();
        if seconds < 0 {
            three.nothing_to_do("build");
            one.nothing_to_do("build");
        }
        lab.assert_doctor_is_content();
        for command in ["stats", "list", "report", "doctor"] {
            let output = lab.cli(&[command]);
            assert!(output.status.code().is_some_and(|code| code != 101), "kache {command}: {output:?}");
        }
    }
}

/// Locks can't be had at all, or are lost as soon as they are held.
#[test]
fn locks_that_are_none() {
    for name in ["locks", "daemon", "v1/tmp", "v1/evidence"] {
        let lab = lean_lab().spoil();
        let p = lab.project("w", PAIR);
        p.cargo("run").ok();
        kache_testkit::remove_tree(&lab.cache_dir().join(name));
        lab.write(&format!("cache/{name}"), "a file");
        p.wipe();
        p.cargo("run").same();
        p.nothing_to_do("build");
        p.edit("dep/src/lib.rs", "1", "2");
        p.cargo("run").same();
    }
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    let projects = [one.checkout("two"), one.checkout("three"), one];
    let done = lab.root().join("tmp/done");
    let script = format!("while [ ! -e '{}' ]; do rm -f '{}'/*; done", done.display(), locks(&lab).display());
    let mut thief = Command::new("/bin/sh").args(["-c", &script]).spawn().expect("start a shell");
    for number in ["7", "8"] {
        for p in &projects {
            p.write("gen/number.txt", number);
        }
        let running = projects.each_ref().map(|p| p.cargo("build").spawn());
        for (p, running) in projects.iter().zip(running) {
            let run = running.wait(p);
            assert!(run.status.success(), "{run}");
        }
        lab.assert_store_is_sound();
    }
    fs::write(done, "").expect("tell the shell");
    assert!(thief.wait().expect("wait").success());
    for p in &projects {
        p.cargo("run").same();
        p.nothing_to_do("build");
    }
    lab.assert_doctor_is_content();
}

fn locks(lab: &Lab) -> PathBuf {
    lab.cache_dir().join("locks")
}
