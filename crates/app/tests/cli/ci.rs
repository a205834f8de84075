//! Releases: the install script with a release in a directory, the packing of a release and of crates, and what else CI
//! systems read.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Home;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("root").to_owned()
}

pub fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn sh(home: &Home, script: &Path, args: &[&str], env: &[(&str, String)]) -> Output {
    let mut command = Command::new("bash");
    command.arg(script).args(args).current_dir(home.path("")).env_clear().env("HOME", home.path(""));
    command.env("PATH", "/usr/bin:/bin").envs(env.iter().map(|(name, value)| (name, value)));
    command.output().expect("bash runs")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name of this machine's target in a release.
fn target() -> String {
    let os = if cfg!(target_os = "macos") { "apple-darwin" } else { "unknown-linux-musl" };
    format!("{}-{os}", std::env::consts::ARCH)
}

/// A directory that looks like the releases of a repository.
fn release(home: &Home) -> PathBuf {
    let dist = home.path("releases/latest/download");
    // Without debug information, as in a release: packing it all takes a minute.
    let program = home.path("kache");
    std::fs::copy(env!("CARGO_BIN_EXE_kache"), &program).expect("copied");
    let _ = Command::new("strip").arg(&program).status();
    let packed = Command::new("sh")
        .arg(root().join("ci/package.sh"))
        .arg(target())
        .args([&program, &dist])
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

/// The crates as a registry gets them. That they also build there, `ci/publish.sh REPOSITORY publish --dry-run` shows.
#[test]
fn crates_are_ready_for_the_registry() {
    if !root().join(".git").exists() {
        return eprintln!("skipped, needs a checkout");
    }
    let home = Home::new();
    let mut pack = Command::new("sh");
    pack.arg(root().join("ci/publish.sh")).args(["https://example.com/kache", "package"]);
    pack.args(["--no-verify", "--offline"])
        .env("CARGO_TARGET_DIR", home.path("target"))
        .env_remove("RUSTC_WRAPPER");
    let packed = pack.output().expect("sh");
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    for (krate, files) in [
        ("core", &[][..]),
        ("store", &["build.rs", "src/sys/preload/names.rs", "src/sys/script/hook.rs"]),
        ("engine", &[]),
        ("service", &[]),
        ("app", &["README.md", "src/main.rs"]),
    ] {
        let name = if krate == "app" { "kache-build".to_owned() } else { format!("kache-build-{krate}") };
        let stem = format!("{name}-{}", env!("CARGO_PKG_VERSION"));
        let archive = home.path("target/package").join(format!("{stem}.crate"));
        let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(home.path("")).status();
        assert!(unpacked.expect("tar").success(), "{}", archive.display());
        let manifest = home.read(&format!("{stem}/Cargo.toml"));
        assert!(!manifest.contains("path = \"..") && !manifest.contains("testkit"), "{manifest}");
        assert!(manifest.contains("repository = \"https://example.com/kache\""), "{manifest}");
        for file in files.iter().chain(&["LICENSE", "Cargo.toml"]) {
            assert!(home.path(&stem).join(file).is_file(), "{stem} lacks {file}");
        }
    }
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
