//! What commands print, word for word: every help text and the errors that a user can run into.

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence};
use kache_core::event::{Event, Outcome};
use kache_core::key::{EntryKey, UnitKey};
use kache_store::Store;

use crate::Home;
use crate::snapshot::check;

/// The commands that `kache --help` lists.
pub fn commands(home: &Home) -> Vec<String> {
    let help = home.kache(&["--help"]).out;
    let list = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("commands");
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    list.lines()
        .filter(is_name)
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn help_texts() {
    let home = Home::new();
    check("help/kache.txt", &home.kache(&["--help"]).out);
    for command in commands(&home) {
        let help = home.kache(&[&command, "--help"]);
        assert_eq!(help.code, 0, "{command}");
        check(&format!("help/{command}.txt"), &help.out);
        assert!(help.out.contains("Examples:"), "{command} has no examples");
    }
}

/// A name, arguments, variables.
type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

#[test]
fn errors() {
    let home = Home::new();
    home.write(".config/kache/config.toml", "[cache]\nlocal_max_size = \"a lot\"\n");
    home.write("pattern.toml", "cache.exclude = ['gen/{a']\n");
    home.write("path.toml", "cache.local_store = '$HOME/cache'\n");
    home.write("broken/.cargo/config.toml", "[build\n");
    let cases: &[Case] = &[
        ("unknown-command", &["frobnicate"], &[]),
        ("unknown-option", &["stats", "--sinc", "1h"], &[]),
        ("no-argument", &["why-miss"], &[]),
        ("wrong-duration", &["stats", "--since", "soon"], &[("KACHE_CONFIG", "none.toml")]),
        ("wrong-setting", &["stats"], &[]),
        ("missing-settings-file", &["stats"], &[("KACHE_CONFIG", "none.toml")]),
        ("wrong-variable", &["list"], &[("KACHE_MAX_SIZE", "big")]),
        ("relative-cache-dir", &["gc"], &[("KACHE_CACHE_DIR", "here")]),
        ("store-is-a-file", &["list"], &[("KACHE_MAX_SIZE", "1GiB"), ("KACHE_CACHE_DIR", "/dev/null")]),
        ("nobody-to-ask", &["init"], &[]),
        ("monitor-without-terminal", &["monitor"], &[("KACHE_MAX_SIZE", "1GiB")]),
        ("config-without-terminal", &["config"], &[("KACHE_MAX_SIZE", "1GiB")]),
        ("no-crate", &["why-miss", ""], &[("KACHE_MAX_SIZE", "1GiB")]),
        ("wrong-pattern", &["stats"], &[("KACHE_CONFIG", "pattern.toml")]),
        ("unexpanded-path", &["stats"], &[("KACHE_CONFIG", "path.toml")]),
        ("clean-nowhere", &["clean", "nowhere"], &[]),
        ("verify-without-project", &["verify"], &[("KACHE_MAX_SIZE", "1GiB")]),
        ("purge-without-fix", &["doctor", "--purge-sccache"], &[]),
        ("wrong-sample", &["verify", "--sample", "some"], &[]),
        (
            "completions-nowhere",
            &["init", "-y", "--no-service", "--completions=elvish"],
            &[("KACHE_MAX_SIZE", "1GiB")],
        ),
    ];
    let mut all = String::new();
    for (name, args, env) in cases {
        let ran = home.kache_with(args, env);
        assert!(!ran.out.contains("error"), "{name}: errors go to standard error");
        assert!(!ran.err.contains("RUST_BACKTRACE") && !ran.err.contains("panicked"), "{name}: {}", ran.err);
        let me = std::fs::canonicalize(env!("CARGO_BIN_EXE_kache")).expect("binary").display().to_string();
        let here = home.path("").display().to_string();
        let said = ran.err.replace(here.trim_end_matches('/'), "HOME").replace(&me, "KACHE");
        all.push_str(&format!("== {name}: kache {} (exit code {})\n{said}\n", args.join(" "), ran.code));
    }
    check("errors.txt", &all);
}

#[test]
fn the_manual_has_every_command() {
    let home = Home::new();
    let page = home.kache(&["man"]);
    assert!(page.code == 0 && page.out.contains(".TH kache 1"), "{}", page.out);
    let version = env!("CARGO_PKG_VERSION");
    let dir = home.path("man1").display().to_string();
    assert_eq!(home.kache(&["man", "--output", &dir]).code, 0);
    for command in commands(&home) {
        let page = home.read(&format!("man1/kache-{command}.1"));
        assert!(
            page.contains(".SH SYNOPSIS") && page.contains(".SH EXAMPLES\n.nf\n  kache "),
            "{command}: {page}"
        );
        assert!(page.contains(&format!("\"kache {version}\" \"kache manual\"")), "{command}: {page}");
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            let request = line.split_whitespace().next().unwrap_or_default();
            let known = [".ie", ".el", ".TH", ".SH", ".TP", ".RS", ".RE", ".PP", ".nf", ".fi", ".br", ".IP"];
            assert!(known.contains(&request), "{command}: {line}");
        }
    }
    let pages = std::fs::read_dir(home.path("man1")).expect("pages").flatten();
    let names: Vec<String> = pages.map(|page| page.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name == "kache-daemon-log.1"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("snapshot") || name.contains("help")), "{names:?}");
    // Where the formatter is installed, it has nothing to complain about.
    for name in names {
        let mut groff = std::process::Command::new("groff");
        groff.args(["-man", "-ww", "-z", "-Tutf8"]).arg(home.path("man1").join(&name));
        if let Ok(output) = groff.output() {
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        }
    }
}

#[test]
fn completions_are_installed_once_and_only_when_asked_for() {
    let home = Home::new();
    let script = ".local/share/bash-completion/completions/kache";
    assert_eq!(home.kache(&["init", "-y", "--no-service"]).code, 0);
    assert!(!home.path(script).exists());
    assert_eq!(home.kache(&["init", "--check", "--no-service", "--completions=bash"]).code, 3);
    assert!(!home.path(script).exists());
    assert_eq!(
        home.kache_with(&["init", "-y", "--no-service", "--completions"], &[("SHELL", "/bin/bash")]).code,
        0
    );
    assert!(home.read(script).contains("_kache"));
    assert_eq!(home.kache(&["init", "--check", "--no-service", "--completions=bash"]).code, 0);
}

#[test]
fn doctor_moves_from_sccache() {
    let home = Home::new();
    home.write(".cargo/config.toml", "[build] # mine\nrustc-wrapper = \"sccache\"\n");
    home.write(".cache/sccache/a/b/c/abc", "stored");
    let sealed = [("PATH", "/nowhere")];
    home.kache_with(&["doctor", "--fix"], &sealed);
    assert!(home.read(".cargo/config.toml").starts_with("[build] # mine\nrustc-wrapper = \"/"));
    assert!(home.path(".cache/sccache").exists());
    home.write(".cache/sccache/notes.txt", "mine");
    assert_eq!(home.kache_with(&["doctor", "--fix", "--purge-sccache"], &sealed).code, 1);
    assert!(home.path(".cache/sccache/a").exists(), "what isn't only sccache's stays");
    std::fs::remove_file(home.path(".cache/sccache/notes.txt")).expect("remove");
    home.kache_with(&["doctor", "--fix", "--purge-sccache"], &sealed);
    assert!(!home.path(".cache/sccache").exists());
}

#[test]
fn clean_removes_target_directories_and_nothing_else() {
    let home = Home::new();
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
    for name in ["p/target", "q/out dir"] {
        home.write(&format!("src/{name}/CACHEDIR.TAG"), tag);
        home.write(&format!("src/{name}/.rustc_info.json"), "{}");
        home.write(&format!("src/{name}/debug/x"), &"x".repeat(50_000));
    }
    home.write("src/r/target/precious", "not Cargo's");
    home.write("outside/file", "stays");
    std::os::unix::fs::symlink(home.path("outside"), home.path("src/p/target/link")).expect("link");
    let shown = home.kache(&["clean", "--dry-run", "--json", "src"]);
    let value: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
    assert_eq!(value["targets"].as_array().map(Vec::len), Some(2), "{}", shown.out);
    assert!(value["reclaimable_bytes"].as_u64().is_some_and(|bytes| bytes >= 100_000));
    let ran = home.kache(&["clean", "src"]);
    assert!(ran.code == 2 && ran.err.contains("kache clean -y"), "{}", ran.err);
    assert!(home.path("src/p/target").exists());
    let ran = home.kache(&["clean", "-y", "src"]);
    assert!(ran.code == 0 && ran.err.contains("Removed 2 target directories"), "{}", ran.err);
    assert!(!home.path("src/p/target").exists() && !home.path("src/q/out dir").exists());
    assert!(home.path("src/r/target/precious").exists() && home.path("outside/file").exists());
    assert_eq!(home.kache(&["clean", "-n", "src"]).out, "No target directory was found.\n");
}

#[test]
fn settings_are_listed_with_their_origin() {
    let home = Home::new();
    home.write(".config/kache/config.toml", "[cache]\nseed = false\n");
    let listed = home.kache_with(&["config", "--json"], &[("KACHE_KEY_SALT", "x")]);
    let value: serde_json::Value = serde_json::from_str(&listed.out).expect("JSON");
    let of = |key: &str| {
        let rows = value["settings"].as_array().expect("settings");
        let row = rows.iter().find(|row| row["key"] == key).expect("listed");
        (row["value"].clone(), row["origin"].clone())
    };
    assert_eq!(of("cache.seed"), ("false".into(), "file".into()));
    assert_eq!(of("cache.key_salt"), ("x".into(), "environment".into()));
    assert_eq!(of("cache.s3_concurrency"), ("16".into(), "default".into()));
    assert!(home.kache(&["config", "--list"]).out.contains("cache.seed"));
}

/// Sets the terminal's title, clears the screen, begins a line of its own, turns the rest around.
const HOSTILE: &str = "x\u{1b}]0;t\u{7}\u{1b}[2J\nerror: y\u{9b}31m\u{202e}z";

#[test]
fn names_from_elsewhere_do_not_command_the_terminal() {
    let home = Home::new();
    let store = Store::open(&home.path(".cache/kache")).expect("store");
    let (unit, key) = (UnitKey(Digest::of(b"u")), EntryKey(Digest::of(b"e")));
    let mut entry = Entry::new(unit, HOSTILE);
    (entry.package, entry.package_version) = (HOSTILE.into(), HOSTILE.into());
    (entry.target, entry.dep_info_name) = (HOSTILE.into(), "x.d".into());
    let evidence = Evidence { crate_name: HOSTILE.into(), ..Evidence::default() };
    store.publish(&key, &entry, &evidence).expect("published");
    // Old enough to be evicted.
    let file = std::fs::File::options().write(true).open(store.entry_path(&key)).expect("an entry");
    let now = std::time::SystemTime::now();
    file.set_modified(now - std::time::Duration::from_secs(7200)).expect("dated");
    let now = now.duration_since(std::time::UNIX_EPOCH).expect("time");
    for (outcome, reason) in [(Outcome::Miss, "inputs-changed"), (Outcome::Passthrough, "unknown-flag")] {
        let mut event = Event::new(HOSTILE, outcome);
        event.at_ms = u64::try_from(now.as_millis()).expect("fits");
        (event.session, event.project, event.kind) = (HOSTILE.into(), HOSTILE.into(), HOSTILE.into());
        (event.package, event.package_version) = (HOSTILE.into(), HOSTILE.into());
        (event.reason, event.detail) = (Some(reason.into()), Some(HOSTILE.into()));
        event.not_stored = Some(HOSTILE.into());
        event.unit_key = Some(unit);
        store.append(&event).expect("journal");
    }
    let commands = [
        "stats",
        "stats --json",
        "list",
        "list --json",
        "report",
        "report --format json",
        "report --format markdown",
        "report --format github",
        "report --format perfetto",
        "report --format html",
        "why-miss x",
        "doctor --verify",
        "gc --dry-run --max-age 0",
        "gc --dry-run --max-age 0 --json",
    ];
    let mut seen = 0;
    for command in commands {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.extend(["--color", "never"]);
        let ran = home.kache(&args);
        let all = format!("{}{}", ran.out, ran.err);
        assert!(!all.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{command}: {all:?}");
        seen += usize::from(all.contains("error: y"));
        if command.contains("json") {
            let value: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
            assert!(
                serde_json::to_string(&value).expect("JSON").contains("\\nerror: y\u{9b}31m"),
                "{command}: {all}"
            );
        }
    }
    assert!(seen > 10, "the names were shown by {seen} commands only");
    let typed = home.kache(&["why-miss", HOSTILE]);
    assert!(typed.code == 0 && typed.out.contains("error: y") && !typed.out.contains('\u{9b}'), "{typed:?}");
}

/// Anybody may put a file into `/tmp`; it decides nothing about builds below.
#[test]
fn a_settings_file_of_another_user_is_passed_over() {
    let home = Home::new();
    home.write(".kache.toml", "cache.fallback = '/tmp/evil'\n");
    home.write("project/src/lib.rs", "");
    let shown = |env: &[(&str, &str)]| {
        let output = home
            .command(&["config", "--list"])
            .envs(env.iter().copied())
            .current_dir(home.path("project"))
            .output();
        crate::Ran::from(output.expect("kache runs"))
    };
    assert!(shown(&[]).out.contains("/tmp/evil"), "one's own is used");
    if let Err(error) = std::os::unix::fs::chown(home.path(".kache.toml"), Some(12345), None) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root: {error}");
        return eprintln!("skipped, needs root: {error}");
    }
    let ran = shown(&[]);
    assert!(!ran.out.contains("/tmp/evil") && ran.err.contains("belongs to another user"), "{ran:?}");
    let file = home.path(".kache.toml").display().to_string();
    assert!(shown(&[("KACHE_CONFIG", &file)]).out.contains("/tmp/evil"), "unless it is named");
    std::os::unix::fs::chown(home.path("project"), Some(12345), None).expect("root may");
    assert!(shown(&[]).out.contains("/tmp/evil"), "or its owner's code is built");
}

/// Whoever lays a store out where everybody may write could put anything into it.
#[test]
fn a_store_of_another_user_is_not_used() {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let home = Home::new();
    let cache = home.path("cache");
    std::fs::create_dir(&cache).expect("directory");
    for dir in [home.path(""), cache.clone()] {
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o777)).expect("permissions");
    }
    let doctor = home.kache_with(&["doctor"], &[("KACHE_CACHE_DIR", cache.to_str().expect("UTF-8"))]);
    assert!(doctor.out.contains("can be written by others"), "{}", doctor.out);
    if let Err(error) = chown(&cache, Some(12345), None) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root: {error}");
        return eprintln!("skipped, needs root: {error}");
    }
    let program = home.path("kache");
    std::fs::copy(env!("CARGO_BIN_EXE_kache"), &program).expect("a program that others may run");
    let cache = home.path("theirs");
    let run = |uid: u32, command: &str| {
        let mut process = std::process::Command::new(&program);
        process.arg(command).env_clear().env("HOME", home.path("")).env("KACHE_CACHE_DIR", &cache).uid(uid);
        crate::Ran::from(process.current_dir("/").output().expect("kache runs"))
    };
    run(12345, "doctor");
    std::fs::set_permissions(&cache, PermissionsExt::from_mode(0o777)).expect("permissions");
    std::fs::set_permissions(cache.join("v1"), PermissionsExt::from_mode(0o777)).expect("permissions");
    for (uid, expected) in [(12346, 1), (12345, 0), (0, 0)] {
        let ran = run(uid, "stats");
        assert_eq!(ran.code, expected, "{uid}: {ran:?}");
        assert_eq!(ran.err.contains("belongs to another user"), expected == 1, "{ran:?}");
    }
}
