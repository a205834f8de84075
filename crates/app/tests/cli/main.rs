//! The command line as a user meets it: the real binary in a sealed environment. What commands show of a filled store
//! is tested end to end, with real builds.

mod ci;
mod docs;
mod init;
mod jobs;
mod proxy;
mod remote;
#[path = "../../src/schema.rs"]
mod schema;
mod schemas;
mod scripts;
mod shown;
#[path = "../../src/snapshot.rs"]
mod snapshot;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Variables of a call, by name and value.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// A home directory of its own and nothing of the user's environment.
struct Home {
    dir: tempfile::TempDir,
}

/// What a run printed and how it ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::fs::write(&path, text).expect("file");
        path
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kache"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null()).env_clear();
        command.env("HOME", self.dir.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // rustup's proxies look for their toolchains here rather than in the sealed home.
        for name in ["RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// What a shell command prints that gives its parts a terminal.
    fn on_a_terminal(&self, line: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path());
        command.env("TERM", "xterm").env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let output = command.output().expect("sh and util-linux's script");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn kache(&self, args: &[&str]) -> Ran {
        self.kache_with(args, &[])
    }

    fn kache_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let output = self.command(args).envs(env.iter().copied()).output().expect("kache runs");
        Ran::from(output)
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

#[test]
fn bare_prints_help() {
    let home = Home::new();
    let bare = home.kache(&[]);
    assert_eq!((bare.code, bare.err.as_str()), (0, ""));
    assert!(bare.out.contains("Usage: kache") && bare.out.contains("Getting started:"), "{}", bare.out);
}

#[test]
fn version_and_completions() {
    let home = Home::new();
    for args in [["--version"], ["-V"], ["version"]] {
        assert_eq!(home.kache(&args).out, format!("kache {}\n", env!("CARGO_PKG_VERSION")));
    }
    let version: serde_json::Value =
        serde_json::from_str(&home.kache(&["version", "--json"]).out).expect("JSON");
    assert_eq!(version["kache"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = home.kache(&["completions", shell]);
        assert!(ran.code == 0 && ran.out.contains("kache"), "{shell}");
    }
}

#[test]
fn help_is_a_command_too() {
    let home = Home::new();
    assert_eq!(home.kache(&["help"]).out, home.kache(&["--help"]).out);
    for command in shown::commands(&home).iter().map(String::as_str) {
        let (asked, option) = (home.kache(&["help", command]), home.kache(&[command, "--help"]));
        assert_eq!((asked.code, &asked.out), (0, &option.out), "{command}");
    }
    assert_eq!(home.kache(&["help", "daemon", "log"]).out, home.kache(&["daemon", "log", "--help"]).out);
    let unknown = home.kache(&["help", "frobnicate"]);
    assert!(unknown.code == 2 && unknown.err.contains("frobnicate"), "{unknown:?}");
}

/// The same mistake, the same exit code and the same advice, with a store and without.
#[test]
fn a_crate_that_is_not_there_is_the_same_everywhere() {
    let home = Home::new();
    let calls: [&[&str]; 6] = [
        &["list", "sedre"],
        &["list", "sedre", "--json"],
        &["why-miss", "sedre"],
        &["why-miss", "sedre", "--json"],
        &["purge", "-y", "--crate-name", "sedre"],
        &["purge", "-n", "--crate-name", "sedre"],
    ];
    let all = |hint: &str| {
        for args in calls {
            let ran = home.kache(args);
            assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {}", ran.err);
            assert!(ran.err.contains("\"sedre\"") && ran.err.contains(hint), "{args:?}: {}", ran.err);
        }
    };
    all("hint: `kache list` names");
    fill(&home, &[("sedre_core", "lib"), ("build_script_build", "build-script")]);
    all("hint: there is sedre_core");
}

/// A store with an entry and an event for each crate; every build script is of the package `native-sys`.
fn fill(home: &Home, crates: &[(&str, &str)]) -> kache_store::Store {
    use kache_core::digest::Digest;
    use kache_core::entry::{Entry, Evidence};
    use kache_core::event::{Event, Outcome};
    use kache_core::key::{EntryKey, UnitKey};
    let store = kache_store::Store::open(&home.path(".cache/kache")).expect("store");
    for (name, kind) in crates {
        let key = EntryKey(Digest::of(name.as_bytes()));
        let mut entry = Entry::new(UnitKey(Digest::of(b"u")), name);
        entry.package = if *kind == "build-script" { "native-sys" } else { name }.to_owned();
        entry.dep_info_name = "x.d".into();
        store.publish(&key, &entry, &Evidence::default()).expect("published");
        let mut event = Event::new(name, Outcome::Miss);
        (event.package, event.kind, event.entry_key) = (entry.package, (*kind).to_owned(), Some(key));
        store.append(&event).expect("journal");
    }
    store
}

#[test]
fn purge_asks_first() {
    let home = Home::new();
    let store = fill(&home, &[("serde", "lib"), ("syn", "lib")]);
    let entries = || store.entry_count().expect("a store");
    let ran = home.kache(&["purge"]);
    assert!(ran.code == 2 && ran.err.contains("`kache purge -y`"), "{ran:?}");
    let ran = home.kache(&["purge", "--dry-run"]);
    assert!(ran.code == 0 && ran.out.contains("Would evict 2 entries"), "{ran:?}");
    assert_eq!(entries(), 2);
    assert_eq!(home.kache(&["purge", "-y", "-n"]).code, 2);
    for (answer, left) in [("n", 2), ("", 2), ("yes", 0)] {
        let kache = env!("CARGO_BIN_EXE_kache");
        let said =
            home.on_a_terminal(&format!("printf '{answer}\\n' | script -qec '{kache} purge' /dev/null"));
        assert!(said.contains("Remove 2 entries") && said.contains("[y/N]"), "{said}");
        assert_eq!(entries(), left, "{answer:?}: {said}");
    }
    fill(&home, &[("serde", "lib"), ("syn", "lib")]);
    let ran = home.kache(&["purge", "-y", "--crate-name", "serde", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, &value["entries_removed"], entries()), (0, &1.into(), 1), "{ran:?}");
}

#[test]
fn build_scripts_are_listed_by_their_package() {
    let home = Home::new();
    fill(&home, &[("build_script_build", "build-script"), ("serde", "lib")]);
    for args in [&["list", "native-sys", "--json"][..], &["list", "native_sys", "--json"]] {
        let list: serde_json::Value = serde_json::from_str(&home.kache(args).out).expect("JSON");
        assert_eq!(list["entries"][0]["package"], "native-sys");
        assert_eq!(list["entries"].as_array().map(Vec::len), Some(1));
    }
}

/// What a shell asks for: the words typed so far, the last one unfinished.
#[test]
fn completions_know_crates_and_keep_internals_to_themselves() {
    let home = Home::new();
    fill(
        &home,
        &[("serde", "lib"), ("serde_json", "lib"), ("syn", "lib"), ("build_script_build", "build-script")],
    );
    let ask = |words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let args: Vec<&str> = ["--"].iter().chain(words).copied().collect();
        let env = [("_KACHE_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", &index), ("_CLAP_IFS", "\n")];
        let ran = home.kache_with(&args, &env);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
        let mut found: Vec<String> = ran.out.lines().map(|line| line.trim().to_owned()).collect();
        found.sort();
        found
    };
    for words in [
        &["kache", "list", "se"][..],
        &["kache", "why-miss", "se"],
        &["kache", "purge", "--crate-name", "se"],
    ] {
        assert_eq!(ask(words), ["serde", "serde_json"], "{words:?}");
    }
    assert_eq!(ask(&["kache", "list", "nat"]), ["native-sys"]);
    let commands = ask(&["kache", ""]);
    assert!(commands.iter().any(|word| word == "why-miss"), "{commands:?}");
    for (words, internal) in [(&["kache", ""][..], "snapshot"), (&["kache", "gc", "--"], "--auto")] {
        assert!(!ask(words).iter().any(|word| word == internal), "{internal}");
    }
    assert_eq!(home.kache(&["--", "kache", "list", "se"]).code, 2, "only where a script asks");
}

/// The script as the guide has it installed, in the shell that it is for.
#[test]
fn a_shell_completes_after_the_guides_instructions() {
    let home = Home::new();
    fill(&home, &[("serde", "lib"), ("syn", "lib")]);
    assert_eq!(home.kache(&["init", "-y", "--no-service", "--completions=bash"]).code, 0);
    std::fs::create_dir(home.path("bin")).expect("directory");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kache"), home.path("bin/kache")).expect("link");
    let script = "PATH=$HOME/bin:$PATH; . ~/.local/share/bash-completion/completions/kache; \
                  COMP_WORDS=(kache why-miss se) COMP_CWORD=2; _clap_complete_kache kache se why-miss; \
                  echo \"${COMPREPLY[@]}\"; complete -p kache";
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(home.path("")).env_clear().env("HOME", home.path(""));
    let ran = Ran::from(command.env("PATH", "/usr/bin:/bin").output().expect("bash"));
    assert!(ran.out.starts_with("serde\n") && ran.out.contains("_clap_complete_kache kache"), "{ran:?}");
}

/// The `cc` crate takes the wrapper of rustc for C compilers too when it is called `kache`.
#[test]
fn compilers_of_other_languages_are_passed_through_and_not_counted() {
    let home = Home::new();
    let direct = Command::new("cc").arg("--version").output().expect("a C compiler");
    let wrapped = home.kache(&["cc", "--version"]);
    assert_eq!((wrapped.code, wrapped.err.as_str()), (0, ""));
    assert_eq!(wrapped.out.as_bytes(), direct.stdout);
    let source = home.write("x.c", "int f(void) { return }");
    assert_eq!(home.kache(&["cc", "-c", source.to_str().expect("UTF-8"), "-o", "x.o"]).code, 1);
    home.write("sub/cache-for-c", "#!/bin/sh\necho \"fallback $*\"\n");
    let fallback = home.path("sub/cache-for-c");
    std::fs::set_permissions(&fallback, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("permissions");
    let ran = home.kache_with(&["cc", "-c", "x.c"], &[("KACHE_FALLBACK", fallback.to_str().expect("UTF-8"))]);
    assert_eq!(ran.out, "fallback cc -c x.c\n");
    assert_eq!(home.kache(&["no-such-gcc"]).code, 127);
    assert!(!home.path(".cache/kache/journal").exists());
}

#[test]
fn wrong_usage_and_wrong_settings_end_with_2() {
    let home = Home::new();
    assert_eq!(home.kache(&["frobnicate"]).code, 2);
    let ran = home.kache(&["stats", "--since", "soon"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("\"soon\" is not a duration"), "{}", ran.err);
    let file = home.write(".config/kache/config.toml", "[cache.remote]\nbucket = \"\"\n");
    let ran = home.kache(&["stats"]);
    let expected = format!(
        "error: the settings can't be used\n  cause: {}: cache.remote.bucket: \"\" is empty\n  hint: `kache doctor` \
         shows every setting and its origin\n",
        file.display()
    );
    assert_eq!((ran.code, ran.out.as_str(), ran.err), (2, "", expected));
    assert!(home.kache(&["doctor"]).out.contains("cache.remote.bucket: \"\" is empty"));
}

#[test]
fn without_a_store_there_is_nothing_and_nothing_is_made() {
    let home = Home::new();
    for args in [&["stats"][..], &["list"], &["gc"], &["gc", "--dry-run"], &["purge"]] {
        let ran = home.kache(args);
        assert_eq!(ran.code, 0, "{args:?}");
        assert!(ran.err.contains("Nothing is cached yet"), "{args:?}: {}", ran.err);
    }
    assert!(!home.path(".cache").exists());
    let stats: serde_json::Value = serde_json::from_str(&home.kache(&["stats", "--json"]).out).expect("JSON");
    assert_eq!(stats["tally"]["all"]["outcomes"]["hit"], 0);
    assert!(stats["hit_rate"].is_null());
    let list: serde_json::Value = serde_json::from_str(&home.kache(&["list", "--json"]).out).expect("JSON");
    assert_eq!(list["entries"], serde_json::json!([]));
}

#[test]
fn without_a_home_the_error_names_the_ways_out() {
    let home = Home::new();
    let ran = Ran::from(home.command(&["stats"]).env_remove("HOME").output().expect("kache runs"));
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("KACHE_CACHE_DIR") && ran.err.contains("XDG_CACHE_HOME"), "{}", ran.err);
}

#[test]
fn colour_follows_the_option_and_the_variables() {
    let home = Home::new();
    let colours = |args: &[&str], env: &[(&str, &str)]| home.kache_with(args, env).out.contains('\u{1b}');
    assert!(!colours(&["stats"], &[]));
    assert!(colours(&["stats", "--color=always"], &[]));
    assert!(colours(&["stats"], &[("CLICOLOR_FORCE", "1")]));
    assert!(!colours(&["stats"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(!colours(&["stats", "--color", "never"], &[("CLICOLOR_FORCE", "1")]));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    let mut child = home
        .command(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kache runs");
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().expect("kache ends"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

/// A file of another name is the same program: Cargo uses kache.
#[test]
fn doctor_knows_the_wrapper_by_what_it_leads_to() {
    let home = Home::new();
    let link = home.path("cache-tool");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kache"), &link).expect("link");
    for (wrapper, good, says) in [
        (link.to_str().expect("UTF-8"), true, "the wrapper is "),
        ("/bin/true", false, "Cargo uses another wrapper (/bin/true)"),
        ("/none/kache", false, "there is no program /none/kache"),
    ] {
        let said = home.kache_with(&["doctor"], &[("RUSTC_WRAPPER", wrapper)]).out;
        assert!(said.contains(says), "{said}");
        assert_eq!(!said.contains("another wrapper") && !said.contains("no program"), good, "{said}");
    }
}

#[test]
fn doctor_tries_the_file_systems_and_leaves_nothing_behind() {
    let home = Home::new();
    std::fs::create_dir(home.path("project")).expect("directory");
    let ran = home.kache(&["doctor", "--checksums", "--json", "project"]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let of = |section: &str| checks.iter().filter(|check| check["section"] == section).count();
    assert!(of("Store") > 0 && of("File systems") > 0 && of("Integrity") > 0, "{}", ran.out);
    // Cargo isn't told to use kache here, and that is what doctor is for.
    assert_eq!(ran.code, 3);
    assert!(checks.iter().any(|check| check["verdict"] == "bad" && check["section"] == "Cargo"));
    let left = |dir: &Path| {
        std::fs::read_dir(dir).expect("directory").flatten().map(|item| item.file_name()).collect()
    };
    let left: Vec<std::ffi::OsString> = left(&home.path("project"));
    assert!(left.is_empty(), "{left:?}");
}

/// What silently goes wrong otherwise.
#[test]
fn doctor_knows_what_silently_went_wrong() {
    let home = Home::new();
    home.write("project/Cargo.toml", "");
    home.write("project/store/notes.txt", "mine");
    home.write("kache.toml", "extra_inptus = []\n");
    let store = home.path("project/store").display().to_string();
    let env = [
        ("KACHE_CACHE_DIR", store.as_str()),
        ("KACHE_MAXSIZE", "1GiB"),
        ("KACHE_FALLBACK", "no-such-wrapper"),
        ("RUSTC_WORKSPACE_WRAPPER", "/x/other-driver"),
    ];
    let said = home.kache_with(&["doctor"], &env).out;
    for part in [
        "KACHE_MAXSIZE is set, and no setting has that name\n       hint: did you mean KACHE_MAX_SIZE?",
        "there is no program no-such-wrapper",
        "a second wrapper, /x/other-driver, is set by the environment variable RUSTC_WORKSPACE_WRAPPER",
        "did you mean `extra_inputs`?",
        "the store is in the checkout ",
        "files that are not kache's are in the store: notes.txt",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let clean =
        home.kache_with(&["doctor"], &[("KACHE_CACHE_DIR", home.path("cache").to_str().expect("UTF-8"))]).out;
    for part in ["no setting has that name", "checkout", "second wrapper", "not kache's"] {
        assert!(!clean.contains(part), "{part}\n{clean}");
    }
}

/// Whichever package of the workspace it is, and wherever Cargo's configuration sets it.
#[test]
fn doctor_looks_at_all_of_a_workspace() {
    let home = Home::new();
    home.write("work/Cargo.toml", "[workspace]\nmembers = ['a', 'b']\nresolver = '2'\n");
    for name in ["a", "b"] {
        home.write(
            &format!("work/{name}/Cargo.toml"),
            &format!("[package]\nname = '{name}'\nversion = '0.1.0'\n"),
        );
        home.write(&format!("work/{name}/src/lib.rs"), "");
    }
    home.write("work/a/kache.toml", "extra_inputs = ['x.sql']\n");
    home.write("work/b/kache.toml", "extra_input = []\n");
    home.write("work/.cargo/config.toml", "[build]\nrustc-workspace-wrapper = '/y/driver'\n");
    for dir in ["work", "work/b"] {
        let output = home.command(&["doctor"]).current_dir(home.path(dir)).output().expect("kache runs");
        let said = Ran::from(output).out;
        for part in [
            "a/kache.toml names 1 extra inputs",
            "did you mean `extra_inputs`?",
            "a second wrapper, /y/driver, is set by ",
        ] {
            assert!(said.contains(part), "{dir}: {part}\n{said}");
        }
    }
}
