//! Every command that shows something has `--json` with a published schema, and prints what the schema says.

use std::path::Path;

use serde_json::Value;

use crate::{Home, schema, shown};

/// Commands that show nothing: they change something, ask, run until they are ended, or print a script.
const SILENT: &[&str] = &["init", "monitor", "save-manifest", "completions", "man", "daemon", "prove"];
/// Arguments with which commands are tried, and their schemas. What takes a bucket or a compile is tried elsewhere.
const TRIED: &[(&str, &str)] = &[
    ("version", "version"),
    ("list", "list"),
    ("gc --dry-run --max-age 0", "gc"),
    ("gc", "gc"),
    ("purge -y --crate-name syn", "gc"),
    ("doctor --verify", "doctor"),
    ("config", "config"),
    ("clean --dry-run", "clean"),
    ("disk", "disk"),
    ("disk --share --dry-run", "share"),
    ("disk --log", "disk-log"),
    ("why-miss serde", "why-miss"),
    ("stats", "stats"),
    ("stats --last-build", "stats"),
    ("report --format=json", "report"),
    ("daemon status", "daemon-status"),
];
/// Schemas whose documents other tests compare.
const ELSEWHERE: &[&str] = &["inputs", "serve", "sync", "verify"];

fn dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema")
}

fn published(name: &str) -> Value {
    let path = dir().join(format!("{name}-v1.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn what_commands_print_is_what_their_schemas_say() {
    let home = Home::new();
    crate::fill(&home, &[("serde", "lib"), ("syn", "lib"), ("build_script_build", "build-script")]);
    home.write("old/target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
    home.write("old/target/.rustc_info.json", "{}");
    for (line, name) in TRIED {
        let mut args: Vec<&str> = line.split(' ').collect();
        if !line.starts_with("report") {
            args.push("--json");
        }
        let ran = home.kache(&args);
        // 3: a check found something.
        assert!(ran.code == 0 || ran.code == 3, "{line}: {ran:?}");
        let value: Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{line}: {e}: {}", ran.out));
        assert_eq!(schema::violations(&published(name), &value), [""; 0], "{line}: {value:#}");
    }
}

#[test]
fn every_command_that_shows_something_has_json() {
    let home = Home::new();
    for command in shown::commands(&home).iter().filter(|command| !SILENT.contains(&command.as_str())) {
        let help = home.kache(&[command, "--help"]).out;
        assert!(help.contains("--json") || command == "report", "{command}");
        let is_tried = TRIED.iter().any(|(line, _)| line.split(' ').next() == Some(command));
        assert!(is_tried || ELSEWHERE.contains(&command.as_str()), "{command} has no schema");
    }
    let guide = std::fs::read_to_string(dir().join("../guide/commands.md")).expect("guide");
    for file in std::fs::read_dir(dir()).expect("schemas").flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let stem = name.trim_end_matches("-v1.json").to_owned();
        let is_used = TRIED.iter().any(|(_, used)| *used == stem) || ELSEWHERE.contains(&stem.as_str());
        assert!(is_used, "{name} is nobody's");
        assert!(guide.contains(&name), "the guide doesn't name {name}");
    }
}
