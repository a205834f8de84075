//! Checks of the program, its settings, and how Cargo is told to use it. Knows nothing about disks.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use kache_core::cargo::{TESTED_MINORS, minor_version};
use kache_core::config::{CrateFile, Origin, Settings, env};
use kache_core::record::Sight;
use kache_engine::fallback;
use kache_engine::sight;
use kache_store::Store;
use kache_store::sys::script;

use super::{Findings, Verdict};
use crate::cargo_config::{CargoConfig, WrapperSetting, find_program, is_me, is_named};

/// Version and place of this program, and whether a shell would find it.
pub fn program(findings: &mut Findings) {
    findings.section = "Program";
    let version = env!("CARGO_PKG_VERSION");
    let Ok(me) = std::env::current_exe() else {
        return findings.add(Verdict::Warning, format!("kache {version}, at an unknown place"));
    };
    findings.add(Verdict::Good, format!("kache {version}, {}", me.display()));
    let path = std::env::var_os(env::PATH);
    let canonical = |file: &Path| file.canonicalize().ok();
    match find_program(OsStr::new("kache"), path.as_deref()) {
        Some(found) if canonical(&found) == canonical(&me) => {}
        Some(found) => findings.add_with_hint(
            Verdict::Warning,
            format!("`kache` in PATH is another program: {}", found.display()),
            "remove one of the two, or `RUSTC_WRAPPER=kache` may run the other",
        ),
        None => findings.add_with_hint(
            Verdict::Note,
            "`kache` is not found through PATH",
            "`kache init` then writes the full path into Cargo's configuration",
        ),
    }
}

/// Every setting that isn't the default, and everything that is wrong with one.
pub fn settings(cwd: &Path, findings: &mut Findings) -> Option<Settings> {
    findings.section = "Settings";
    let (settings, warnings) = match crate::settings::load(Some(cwd)) {
        Ok(loaded) => loaded,
        Err(error) => {
            findings.add_with_hint(
                Verdict::Bad,
                error.to_string(),
                "until then every build bypasses the cache",
            );
            return None;
        }
    };
    match &settings.file {
        Some(file) => findings.add(Verdict::Good, format!("file {file}")),
        None => findings.add(Verdict::Good, "no settings file, defaults and environment only"),
    }
    for row in settings.rows().into_iter().filter(|row| row.origin != Origin::Default) {
        let (name, from) = match row.origin {
            Origin::Environment => (row.variable, "environment"),
            Origin::File | Origin::Default => (row.key, "file"),
        };
        let value = row.value.unwrap_or_default();
        findings.add(Verdict::Note, format!("{} = {value} ({from})", name.unwrap_or_default()));
    }
    for problem in &settings.problems {
        let meanwhile = "the wrapper goes on with the local cache";
        findings.add_with_hint(Verdict::Bad, problem.to_string(), meanwhile);
    }
    for warning in warnings {
        findings.add(Verdict::Warning, warning.to_string());
    }
    for (name, meant) in std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter_map(|name| env::unknown(&name).map(|meant| (name, meant)))
    {
        let hint = meant.map_or("docs/guide/settings.md lists those that there are".to_owned(), |meant| {
            format!("did you mean {meant}?")
        });
        findings.add_with_hint(
            Verdict::Warning,
            format!("{name} is set, and no setting has that name"),
            hint,
        );
    }
    for dir in packages(cwd) {
        crate_file(&dir, findings);
    }
    if *settings.disabled {
        let hint = "unset KACHE_DISABLED to use the cache";
        findings.add_with_hint(Verdict::Bad, "KACHE_DISABLED is set: nothing is cached", hint);
    }
    Some(settings)
}

/// Directories of the workspace's packages; without one, the current directory.
fn packages(cwd: &Path) -> Vec<PathBuf> {
    let args = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let output = Command::new("cargo").args(args).current_dir(cwd).output();
    let metadata: serde_json::Value =
        output.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default();
    let manifests =
        metadata["packages"].as_array().into_iter().flatten().map(|package| &package["manifest_path"]);
    let dirs: BTreeSet<PathBuf> =
        manifests.filter_map(|path| Some(Path::new(path.as_str()?).parent()?.to_owned())).collect();
    if dirs.is_empty() { vec![cwd.to_owned()] } else { dirs.into_iter().collect() }
}

/// `kache.toml` beside a package's `Cargo.toml`.
fn crate_file(dir: &Path, findings: &mut Findings) {
    let path = dir.join("kache.toml");
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    match CrateFile::parse(&path.display().to_string(), &text) {
        Ok(file) => {
            let what = format!("{} names {} extra inputs", path.display(), file.extra_inputs.len());
            findings.add(Verdict::Good, what);
        }
        Err(error) => findings.add_with_hint(
            Verdict::Bad,
            error.to_string(),
            "until then this crate is given to the compiler without a look-up",
        ),
    }
}

/// A wrapper between kache and the compiler, which Cargo uses for members of the workspace.
fn second_wrapper(config: &CargoConfig, findings: &mut Findings) {
    let Some(second) = config.workspace_wrappers.first().filter(|second| !second.value.is_empty()) else {
        return;
    };
    if !is_named(&second.value, "clippy-driver") && !second.is_kache() {
        let what = format!("a second wrapper, {}, is set by {}", second.value.display(), second.place);
        let hint = "what it does is not known, so members of the workspace go to it without a look-up; dependencies are served";
        findings.add_with_hint(Verdict::Warning, what, hint);
    }
}

/// Whether the wrapper for what kache passes through can be run and doesn't call kache. A script is tried with a
/// question to the compiler; other programs are only looked for.
pub fn fallback(settings: &Settings, findings: &mut Findings) {
    let hint = "builds run the compiler without it; unset `cache.fallback` or name another wrapper";
    let program = match fallback::find(settings) {
        None => return,
        Some(Ok(program)) => program,
        Some(Err(why)) => {
            return findings.add_with_hint(Verdict::Bad, format!("`cache.fallback`: {why}"), hint);
        }
    };
    let shown = program.display();
    match fallback::try_script(&program, "rustc") {
        None => findings.add(Verdict::Good, format!("what kache passes through goes to {shown}")),
        Some(Ok(())) => {
            findings.add(Verdict::Good, format!("what kache passes through goes to {shown}, which runs"))
        }
        Some(Err(why)) => findings.add_with_hint(Verdict::Bad, format!("`cache.fallback`: {why}"), hint),
    }
}

/// Which wrapper Cargo uses here, and whether it is this program; Cargo's version comes back.
pub fn cargo(cwd: &Path, findings: &mut Findings) -> Option<String> {
    findings.section = "Cargo";
    match CargoConfig::observe(cwd, |name| std::env::var_os(name)) {
        Err(error) => findings.add(Verdict::Bad, error.to_string()),
        Ok(config) => {
            wrapper(&config, findings);
            second_wrapper(&config, findings);
        }
    }
    let cargo = version_of("cargo");
    match &cargo {
        Some(version) => cargo_version(version, findings),
        None => findings.add(Verdict::Bad, "`cargo -V` doesn't run"),
    }
    match version_of("rustc") {
        Some(version) => findings.add(Verdict::Good, version),
        None => findings.add(Verdict::Bad, "`rustc -V` doesn't run"),
    }
    cargo
}

/// Whether kache is tested with this Cargo. Another one may arrange its directories in a way that isn't known.
fn cargo_version(line: &str, findings: &mut Findings) {
    let (oldest, newest) = (TESTED_MINORS.start(), TESTED_MINORS.end());
    match minor_version(line) {
        Some(minor) if TESTED_MINORS.contains(&minor) => findings.add(Verdict::Good, line),
        Some(_) | None => findings.add_with_hint(
            Verdict::Warning,
            format!("{line}, which this kache is not tested with"),
            format!("it is tested with Cargo 1.{oldest} to 1.{newest}; `kache stats` says whether builds are served"),
        ),
    }
}

/// How completely the inputs of compiles come to light here.
pub fn observation(store: &Store, settings: &Settings, findings: &mut Findings) {
    findings.section = "Observation";
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let sight = sight::here(store, &compiler);
    if !*settings.build_scripts {
        findings.add(Verdict::Note, "build scripts run each time: `cache.build_scripts` is off");
    } else if sight == Sight::Variables && !script::HOOK.is_empty() {
        findings.add(Verdict::Good, "runs of build scripts are observed, and their results put back");
    } else {
        findings.add(Verdict::Warning, "build scripts run each time: what they use can't be observed here");
    }
    match sight {
        Sight::Variables => {
            findings.add(Verdict::Good, "files, programs and variables that compiles use are observed");
        }
        Sight::Files => findings.add_with_hint(
            Verdict::Warning,
            "files that compiles use are observed, variables are not",
            "they are recognised by their names in macros; a cache directory without blanks and colons in its path, \
             and a dynamically linked rustc, make them visible",
        ),
        Sight::Reported => findings.add_with_hint(
            Verdict::Warning,
            "what compiles use can't be observed here",
            "Linux 5.9 or later, and a container that allows seccomp filters, can; until then declare what macros \
             read in `kache.toml`",
        ),
    }
}

fn wrapper(config: &CargoConfig, findings: &mut Findings) {
    let Some(first) = config.wrappers.first() else {
        let what = format!("no compiler wrapper is set in {}", config.user_file.display());
        return findings.add_with_hint(Verdict::Bad, what, "`kache init` sets it");
    };
    let value = first.value.display();
    if !first.is_kache() {
        let what = match (first.value.is_empty(), first.is_sccache()) {
            (true, _) => format!("{} is empty: Cargo uses no wrapper", first.place),
            (_, true) => format!("Cargo uses sccache ({value}), set by {}", first.place),
            _ => format!("Cargo uses another wrapper ({value}), set by {}", first.place),
        };
        let kache_below = config.wrappers.iter().skip(1).any(WrapperSetting::is_kache);
        let hint = if kache_below {
            "remove that setting; below it kache is configured"
        } else {
            "`kache init` replaces the user's setting; variables and project files are yours to change"
        };
        return findings.add_with_hint(Verdict::Bad, what, hint);
    }
    findings.add(Verdict::Good, format!("the wrapper is {value}, set by {}", first.place));
    let path = std::env::var_os(env::PATH);
    match find_program(&first.value, path.as_deref()) {
        None => findings.add_with_hint(
            Verdict::Bad,
            format!("there is no program {value}: builds fail"),
            "`kache init` puts the right path in",
        ),
        Some(found) if !is_me(found.as_os_str()) => findings.add_with_hint(
            Verdict::Warning,
            format!("the wrapper is another copy of kache: {}", found.display()),
            "`kache init` with the copy you want puts its path in",
        ),
        Some(_) => {}
    }
}

/// The first line that a program prints for `-V`.
fn version_of(program: &str) -> Option<String> {
    let output = Command::new(program).arg("-V").output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned)
}
