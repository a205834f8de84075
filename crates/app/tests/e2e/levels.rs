//! Several remotes, nearest first: what comes from a farther one fills the nearer, by commands and by the daemon; a level
//! that only reads isn't written, after one that is down or silent the next is asked.

use std::path::Path;
use std::time::{Duration, Instant};

use kache_testkit::{Manners, Web};

use crate::daemon::Machine;
use crate::fixtures::ALL_KINDS;
use crate::remote::{command, machine_with, moved, ok};
use crate::support::{Lab, Outcomes as _};

/// A machine with these levels in its settings.
fn set_levels(lab: &Lab, levels: &[String]) {
    let file = lab.root().join("levels.toml");
    let tables = levels.iter().map(|level| format!("[[cache.remotes]]\n{level}\n"));
    std::fs::write(&file, tables.collect::<String>()).expect("settings");
    lab.set_env("KACHE_CONFIG", &file);
    lab.set_env("KACHE_REMOTE_TOKEN", Web::TOKEN);
}

fn folder(dir: &tempfile::TempDir, more: &str) -> String {
    format!("path = '{}'\n{more}", dir.path().display())
}

fn server(server: &Web) -> String {
    format!("url = '{}'", server.url())
}

fn manifests(dir: &Path) -> usize {
    kache_testkit::walk(&dir.join("artifacts/v3/manifests")).len()
}

#[test]
fn commands_fill_the_nearer_level() {
    let (near, far) = (tempfile::tempdir().expect("temp dir"), Web::start(Manners::Kind));
    let here = machine_with(far.env());
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    ok(&one, "sync --push");
    ok(&one, "save-manifest");

    for (more, filled) in [("read_only = true", false), ("", true)] {
        let there = machine_with(Vec::new());
        set_levels(&there, &[folder(&near, more), server(&far)]);
        let two = moved(&there, &one);
        let said = ok(&two, "sync --pull");
        assert_eq!(said.contains("Pushed "), filled, "{said}");
        two.cargo("build").ok().all_hit();
        assert_eq!(manifests(near.path()) > 0, filled);
        assert_eq!(near.path().join("artifacts").exists(), filled, "nothing is written where it only reads");
    }
    // The nearer one has it by now.
    far.forget();
    let there = machine_with(Vec::new());
    set_levels(&there, &[folder(&near, ""), server(&far)]);
    let two = moved(&there, &one);
    ok(&two, "sync --pull");
    assert_eq!(far.count("GET", "/packs/"), 0);
    two.cargo("build").ok().all_hit();
    two.cargo("run").same();
    two.nothing_to_do("build");
    // Both get what is new, and what it consists of.
    two.cargo("build --release").ok();
    far.forget();
    let before = manifests(near.path());
    ok(&two, "sync --push");
    ok(&two, "save-manifest");
    assert!(manifests(near.path()) > before && far.count("PUT", "/packs/") > 0);
    assert_eq!(far.count("PUT", "/_manifests/"), 1 + far.count("PUT", "/_manifests/snapshots/"));
    assert!(near.path().join("artifacts/_manifests").is_dir());
    let said = String::from_utf8_lossy(&there.cli(&["doctor"]).stdout).into_owned();
    for part in ["level 1 of 2", "level 2 of 2", &near.path().display().to_string(), &far.url()] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn daemons_fill_the_nearer_level() {
    let (near, far) = (tempfile::tempdir().expect("temp dir"), Web::start(Manners::Kind));
    let here = machine_with(far.env());
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    ok(&one, "sync --push");
    let pushed = manifests(far.dir());
    for is_filled in [false, true] {
        far.forget();
        let there = Machine::with(Vec::new());
        set_levels(&there, &[folder(&near, ""), server(&far)]);
        let two = moved(&there, &one);
        two.cargo("build").ok().all_hit();
        let until = Instant::now() + Duration::from_secs(60);
        while manifests(near.path()) < pushed {
            assert!(Instant::now() < until, "{} of {pushed} are filled", manifests(near.path()));
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(far.count("GET", "/packs/") == 0, is_filled);
        two.cargo("run").same();
        two.nothing_to_do("build");
        there.finish_uploads();
    }
}

/// Somebody listens, and never answers; or nobody does.
#[test]
fn a_dead_level_keeps_nobody_from_the_next() {
    let far = tempfile::tempdir().expect("temp dir");
    let here = machine_with(vec![("KACHE_REMOTE_PATH", far.path().display().to_string())]);
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    ok(&one, "sync --push");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("an address").to_string();
    for address in [silent.as_str(), "127.0.0.1:9"] {
        let there = Machine::with(Vec::new());
        set_levels(&there, &[format!("url = 'http://{address}'"), folder(&far, "")]);
        let two = moved(&there, &one);
        two.cargo("build").ok().all_hit();
        two.cargo("build --release").ok();
        there.finish_uploads();
    }
    // Commands say what failed, and do the rest.
    let there = machine_with(Vec::new());
    set_levels(&there, &["url = 'http://127.0.0.1:9'".to_owned(), folder(&far, "")]);
    let two = moved(&there, &one);
    let pulled = command(&two, "sync --pull").output().expect("kache runs");
    let said = String::from_utf8_lossy(&pulled.stderr).into_owned();
    assert!(pulled.status.code() == Some(1) && said.contains("cache.remote.url"), "{said}");
    two.cargo("build").ok().all_hit();
}
