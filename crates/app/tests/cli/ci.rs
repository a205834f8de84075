//! The files that CI systems and installers use, run as they are: the steps of `action.yml` by a small runner, the install
//! script with a release in a directory, the packing of a release.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Home;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("root").to_owned()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn sh(home: &Home, script: &Path, args: &[&str], env: &[(&str, String)]) -> Output {
    let mut command = Command::new("bash");
    command.arg(script).args(args).current_dir(home.path("")).env_clear().env("HOME", home.path(""));
    command.env("PATH", "/usr/bin:/bin").envs(env.iter().map(|(name, value)| (name, value)));
    command.output().expect("bash runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One step of a composite action.
#[derive(Debug, Default)]
struct Step {
    condition: String,
    run: String,
    env: Vec<(String, String)>,
}

/// The steps of `action.yml`, as far as it uses YAML.
fn steps(action: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let list = action.split("\n  steps:\n").nth(1).expect("steps");
    for line in list.lines() {
        if line.starts_with("    - ") {
            steps.push(Step::default());
        }
        let step = steps.last_mut().expect("a step");
        let Some((key, value)) = line.trim_start().trim_start_matches("- ").split_once(": ") else {
            continue;
        };
        let quoted = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
        let value = quoted.unwrap_or(value).to_owned();
        match key {
            "if" => step.condition = value,
            "run" => step.run = value,
            name if name.starts_with("INPUT_") => step.env.push((name.to_owned(), value)),
            _ => {}
        }
    }
    steps
}

/// Runs what the action runs `at` one end of a job; variables for later steps are added, outputs come back.
fn action(
    home: &Home,
    at: &str,
    inputs: &[(&str, &str)],
    env: &mut Vec<(String, String)>,
) -> BTreeMap<String, String> {
    let yaml = read("action.yml");
    let declared = |name: &str| yaml.contains(&format!("\n  {name}:\n"));
    let condition = format!("inputs.at == '{at}'");
    let mut ran = 0;
    for name in ["env", "path", "output"] {
        home.write(name, "");
    }
    for step in steps(&yaml).iter().filter(|step| step.condition == condition && !step.run.is_empty()) {
        let mut command = Command::new("bash");
        command.args(["-c", &step.run]).current_dir(home.path("project")).env_clear();
        for (name, expression) in &step.env {
            let input = expression.trim_start_matches("${{ inputs.").trim_end_matches(" }}");
            assert!(declared(input), "{expression} is no input");
            let value = inputs.iter().find(|(name, _)| *name == input).map_or("", |(_, value)| value);
            command.env(name, value);
        }
        command
            .env("HOME", home.path(""))
            .env("GITHUB_ACTION_PATH", root())
            .env("RUNNER_TEMP", home.path("tmp"));
        for (name, file) in
            [("ENV", "env"), ("PATH", "path"), ("OUTPUT", "output"), ("STEP_SUMMARY", "summary.md")]
        {
            command.env(format!("GITHUB_{name}"), home.path(file));
        }
        command
            .env("PATH", format!("{}:{}", home.path("bin").display(), std::env::var("PATH").expect("PATH")));
        let output = command.envs(env.iter().map(|(name, value)| (name, value))).output().expect("bash");
        assert!(output.status.success(), "{}: {}", step.run, text(&output.stderr));
        ran += 1;
    }
    assert_eq!(ran, 1, "one step does the work at {at}");
    let pairs = |file: &str| {
        let lines: Vec<_> = home
            .read(file)
            .lines()
            .filter_map(|l| l.split_once('='))
            .map(|(a, b)| (a.into(), b.into()))
            .collect();
        lines
    };
    env.extend(pairs("env"));
    pairs("output").into_iter().collect()
}

/// A home with kache in PATH and a small project.
fn runner() -> Home {
    let home = Home::new();
    for dir in ["bin", "tmp"] {
        std::fs::create_dir_all(home.path(dir)).expect("directory");
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kache"), home.path("bin/kache")).expect("link");
    home.write(
        "project/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                [dependencies]\ndep = { path = \"dep\" }\n[workspace]\n",
    );
    home.write("project/src/main.rs", "fn main() { println!(\"{}\", dep::f()) }\n");
    home.write(
        "project/dep/Cargo.toml",
        "[package]\nname = \"dep\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    );
    home.write("project/dep/src/lib.rs", "pub fn f() -> u8 { 7 }\n");
    home
}

/// A job on a fresh machine, as the guide's example has it; the JSON report and whether the store is saved come back.
fn job(saved: &Path, event: &str, branch: &str) -> (serde_json::Value, bool, String) {
    // A job begins in another second than the one before it ended in: that is how exactly `date +%s` tells them apart.
    let now = || std::time::UNIX_EPOCH.elapsed().expect("a time after 1970");
    std::thread::sleep(std::time::Duration::from_secs(now().as_secs() + 1).saturating_sub(now()));
    let home = runner();
    let store = home.path("store").display().to_string();
    if saved.exists() {
        copy(saved, &home.path("store"));
    }
    let mut env = vec![
        ("GITHUB_EVENT_NAME".to_owned(), event.to_owned()),
        ("GITHUB_REF".to_owned(), format!("refs/heads/{branch}")),
    ];
    for name in ["RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_HOME"] {
        env.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    if !env.iter().any(|(name, _)| name == "RUSTUP_HOME") {
        let home = std::env::var("HOME").unwrap_or_default();
        env.push(("RUSTUP_HOME".to_owned(), format!("{home}/.rustup")));
    }
    let inputs = [("store", store.as_str()), ("save", "main"), ("max-size", "1GiB"), ("max-age", "7d")];
    let begun = action(&home, "start", &inputs, &mut env);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--offline"])
        .current_dir(home.path("project"))
        .env_clear()
        .env("HOME", home.path(""));
    build.env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(env.clone());
    let output = build.output().expect("cargo");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let ended = action(&home, "end", &inputs, &mut env);
    assert_eq!(begun["save"], ended["save"]);
    let report = std::fs::read_to_string(&ended["report"]).expect("a report");
    let save = ended["save"] == "true";
    if save {
        let _ = std::fs::remove_dir_all(saved);
        copy(&home.path("store"), saved);
    }
    (serde_json::from_str(&report).expect("JSON"), save, home.read("summary.md"))
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()));
}

/// The gate that the guide shows.
fn gate(report: &serde_json::Value) -> bool {
    let guide = read("docs/guide/ci.md");
    assert!(guide.contains("'.served.share == null or .served.share > 0.5'"), "the gate is another");
    report["served"]["share"].as_f64().is_none_or(|share| share > 0.5)
}

#[test]
fn jobs_that_share_only_the_saved_directory() {
    let shared = tempfile::tempdir().expect("directory");
    let saved = shared.path().join("saved");
    let (first, save, summary) = job(&saved, "push", "main");
    assert!(save && !gate(&first), "{first:#}");
    assert!(summary.contains("**Served 0 of 2 compiles.**"), "{summary}");
    // A pull request is served, and what it builds is saved by nobody.
    let (second, save, summary) = job(&saved, "pull_request", "main");
    assert!(!save && gate(&second), "{second:#}");
    assert!(summary.contains("**Served 2 of 2 compiles, saved about "), "{summary}");
    let (_, save, _) = job(&saved, "push", "topic");
    assert!(!save, "another branch reads only");
    // Only this job is told of, though the journal came with the store.
    let (fourth, save, _) = job(&saved, "push", "main");
    assert_eq!((save, &fourth["served"]["compiles_of"]), (true, &2.into()), "{fourth:#}");
}

/// The name of this machine's target in a release.
fn target() -> String {
    let os = if cfg!(target_os = "macos") { "apple-darwin" } else { "unknown-linux-musl" };
    format!("{}-{os}", std::env::consts::ARCH)
}

/// A directory that looks like the releases of a repository.
fn release(home: &Home) -> PathBuf {
    let dist = home.path("releases/latest/download");
    let packed = Command::new("sh")
        .arg(root().join("ci/package.sh"))
        .args([&target(), env!("CARGO_BIN_EXE_kache")])
        .arg(&dist)
        .output()
        .expect("sh");
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    let sum = "rm -f SHA256SUMS && sha256sum -- * > ../sums && mv ../sums SHA256SUMS";
    let sums = Command::new("sh").args(["-c", sum]).current_dir(&dist).status().expect("sh");
    assert!(sums.success());
    dist
}

#[test]
fn a_release_is_installed_only_when_it_is_what_its_checksums_say() {
    if Command::new("python3").args(["-c", "import tomllib"]).status().is_ok_and(|status| !status.success()) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs Python 3.11");
        return eprintln!("skipped, needs Python 3.11");
    }
    let home = Home::new();
    let dist = release(&home);
    let archive = dist.join(format!("kache-{}.tar.gz", target()));
    let script = root().join("ci/install.sh");
    let env = [("INSTALL_KACHE_FROM", format!("file://{}", home.path("releases").display()))];
    let ran = sh(&home, &script, &[], &env);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let installed = home.path(".local/bin/kache");
    assert_eq!(installed.metadata().expect("installed").permissions().mode() & 0o777, 0o755);
    let version = Command::new(&installed).arg("version").output().expect("it runs");
    assert_eq!(text(&version.stdout), format!("kache {}\n", env!("CARGO_PKG_VERSION")));
    let listed = Command::new("tar").arg("-tzf").arg(&archive).output().expect("tar");
    for part in ["kache\n", "LICENSE", "man1/kache-stats.1", "completions/kache.bash"] {
        assert!(text(&listed.stdout).contains(part), "{part}");
    }
    let sbom = std::fs::read_to_string(dist.join(format!("kache-{}.cdx.json", target()))).expect("SBOM");
    let sbom: serde_json::Value = serde_json::from_str(&sbom).expect("JSON");
    let names: Vec<_> =
        sbom["components"].as_array().expect("components").iter().map(|c| &c["name"]).collect();
    assert!(names.contains(&&"blake3".into()) && !names.contains(&&"proptest".into()), "{names:?}");
    // The same files make the same archive.
    let before = std::fs::read(&archive).expect("archive");
    release(&home);
    assert!(before == std::fs::read(&archive).expect("archive"));

    std::fs::remove_file(&installed).expect("removed");
    let mut bytes = before;
    bytes.push(0);
    std::fs::write(&archive, bytes).expect("changed");
    let ran = sh(&home, &script, &[], &env);
    assert!(text(&ran.stderr).contains("is not what SHA256SUMS says") && !installed.exists(), "{ran:?}");
    std::fs::write(dist.join("SHA256SUMS"), "").expect("changed");
    let ran = sh(&home, &script, &[], &env);
    assert!(text(&ran.stderr).contains("doesn't name") && !ran.status.success(), "{ran:?}");
    let ran = sh(&home, &script, &[], &[]);
    assert!(text(&ran.stderr).contains("INSTALL_KACHE_FROM") && !ran.status.success(), "{ran:?}");
}

#[test]
fn the_changelog_tells_of_this_version() {
    let home = Home::new();
    let notes = sh(&home, &root().join("ci/notes.sh"), &[env!("CARGO_PKG_VERSION")], &[]);
    assert!(notes.status.success() && text(&notes.stdout).lines().count() > 3, "{notes:?}");
    assert!(!sh(&home, &root().join("ci/notes.sh"), &["99.0.0"], &[]).status.success());
}

#[test]
fn every_workflow_and_template_is_yaml() {
    let script = "import sys, yaml; [yaml.safe_load(open(name)) for name in sys.argv[1:]]";
    let python = |args: &[&str]| Command::new("python3").args(args).current_dir(root()).output().ok();
    if !python(&["-c", "import yaml"]).is_some_and(|output| output.status.success()) {
        return eprintln!("skipped, needs PyYAML");
    }
    let files = "action.yml ci/gitlab.yml .github/workflows/ci.yml .github/workflows/release.yml \
                 .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml .github/ISSUE_TEMPLATE/config.yml";
    let args: Vec<&str> = ["-c", script].into_iter().chain(files.split_whitespace()).collect();
    let output = python(&args).expect("python3");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The templates that can't be run here name only what there is.
#[test]
fn templates_name_scripts_and_commands_that_exist() {
    let known = crate::shown::commands(&Home::new());
    for file in ["ci/gitlab.yml", ".github/workflows/ci.yml", ".github/workflows/release.yml"] {
        let yaml = read(file);
        assert!(!yaml.contains('\t'), "{file}");
        for word in yaml.split_whitespace().filter(|word| word.starts_with("ci/") || word.starts_with(".ci/"))
        {
            assert!(root().join(word).exists(), "{file}: {word}");
        }
        for call in yaml.lines().filter_map(|line| line.trim_start().strip_prefix("- kache ")) {
            let command = call.split_whitespace().next().unwrap_or_default();
            assert!(command == "--version" || known.iter().any(|known| known == command), "{file}: {call}");
        }
    }
}
