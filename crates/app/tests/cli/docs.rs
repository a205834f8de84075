//! What the documents say about the command line holds: every command in them is run in a home with a project and a
//! filled store, except those that need a terminal, a network or another program: these have to be understood.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Home;
use crate::shown::commands as known_commands;

/// Commands that aren't run: they need a terminal, a project, a network or a user's services, or run until they are ended.
const ONLY_PARSED: &[&str] = &["monitor", "purge", "daemon", "sync", "save-manifest", "serve", "verify"];
/// Commands that ask something, or show a full screen, unless one of [`UNASKED`] is there.
const ASKING: &[&str] = &["init", "clean", "config"];
/// Options with which these commands ask nobody.
const UNASKED: &[&str] = &["-y", "--check", "--dry-run", "--list"];

#[test]
fn every_command_in_the_documents_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("root");
    let guide = std::fs::read_dir(root.join("docs/guide")).expect("guide").flatten().map(|item| item.path());
    let home = Home::new();
    fill(&home);
    let known = known_commands(&home);
    let (mut run, mut parsed) = (0, 0);
    let mut files: Vec<PathBuf> = guide.chain([root.join("README.md")]).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("document");
        for line in commands(&text, &known) {
            let mut args: Vec<&str> = line.split_whitespace().skip(1).collect();
            let asks = ASKING.contains(&args[0]) && !args.iter().any(|arg| UNASKED.contains(arg));
            let is_run = !ONLY_PARSED.contains(&args[0]) && !asks;
            if !is_run || args.contains(&"-") {
                // `--help` has clap stop after it has understood everything before it.
                args.retain(|arg| *arg != "--");
                args.push("--help");
                parsed += 1;
            } else {
                run += 1;
            }
            let ran = home.kache_with(&args, &[("KACHE_CACHE_DIR", &store(&home)), ("KACHE_JOB", "7")]);
            // 3: a check found something, which is what it is for.
            assert!(ran.code == 0 || ran.code == 3, "{}: {line}: {} {}", file.display(), ran.code, ran.err);
            assert!(!ran.out.contains("Usage:") || !is_run, "{line} printed its usage: {}", ran.out);
        }
    }
    assert!(run > 25 && parsed > 5, "only {run} commands were run and {parsed} understood");
}

fn store(home: &Home) -> String {
    home.path("store").display().to_string()
}

/// A project that was built once, for commands about crates; and directories that the documents name.
fn fill(home: &Home) {
    for dir in ["src/old", "src/old-worktrees", "DIR"] {
        std::fs::create_dir_all(home.path(dir)).expect("directory");
    }
    for name in ["serde", "my-app"] {
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n");
        home.write(&format!("{name}/Cargo.toml"), &manifest);
        home.write(&format!("{name}/src/lib.rs"), "pub fn f() {}\n");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["check", "--offline"]).current_dir(home.path(name)).env_clear();
        for name in ["PATH", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("HOME", home.path("")).env("KACHE_CACHE_DIR", store(home));
        command.env("RUSTC_WRAPPER", env!("CARGO_BIN_EXE_kache"));
        let output = command.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Calls of kache in code blocks and in code spans, with the values that placeholders stand for and without what the
/// shell makes of the rest.
fn commands(text: &str, known: &[String]) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let lines =
        text.lines().map(|line| line.trim_start().trim_start_matches("- ").trim_start_matches("run: "));
    let calls = spans.chain(lines).filter(|call| call.starts_with("kache ") && !call.contains('\n'));
    let plain = calls.map(|call| {
        call.split(['|', '>', '#', '&', '(', ',', ';']).next().unwrap_or_default().trim().to_owned()
    });
    let calls = plain.filter(|call| !call.contains(['[', '`', ':']));
    let filled = calls.map(|call| call.split_whitespace().map(fill_in).collect::<Vec<_>>().join(" "));
    filled.filter(|call| is_call(call, known)).collect()
}

/// A value in place of a placeholder or of what a shell would replace.
fn fill_in(word: &str) -> String {
    match word {
        "CRATE" | "C" => "serde".to_owned(),
        "SHELL" => "zsh".to_owned(),
        "D" => "7d".to_owned(),
        "\"$begun\"" => "1700000000".to_owned(),
        word => word.replace("~/", "./"),
    }
}

/// Prose may begin with the name too: a call's second word is a command.
fn is_call(text: &str, known: &[String]) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_placeholder =
        |word: &&str| word.len() > 1 && *word != "DIR" && word.chars().all(|c| c.is_ascii_uppercase());
    words.get(1).is_some_and(|word| known.iter().any(|known| known == word))
        && !words.iter().any(is_placeholder)
}
