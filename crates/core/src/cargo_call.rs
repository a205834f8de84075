//! What a Cargo process was asked to do, as far as it decides where Cargo builds. Pure: arguments in, meaning or
//! doubt out. What can't be told for certain is a doubt; nobody guesses a target directory.

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CargoCall {
    /// Arguments that another Cargo command needs to find the same workspace and configuration.
    pub passed_on: Vec<String>,
    /// `--target-dir`.
    pub target_dir: Option<String>,
    /// Last part of the profile directories that it works in, as far as its arguments tell: `debug`, `release`.
    pub profile: String,
    pub targets: Vec<String>,
    /// Packages that they name: as `-p` has them.
    pub packages: Vec<String>,
    pub is_workspace: bool,
    /// Tests, benchmarks or examples are built, which development dependencies are for.
    pub is_testing: bool,
    /// Libraries are checked and not compiled, but for what runs during the build.
    pub is_check: bool,
    /// The command, where it is one of the abbreviations that a configuration may give another meaning.
    pub abbreviation: Option<String>,
}

/// Why the directories are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Not a command that builds the workspace, or an alias.
    #[error("`cargo {0}` is no command that is known to build here")]
    Subcommand(String),
    /// An option that isn't known before the command, or one that names files elsewhere.
    #[error("option {0} may decide where Cargo builds")]
    Option(String),
    #[error("Cargo was called without a command")]
    Nothing,
}

/// Commands that build in the workspace's own directories.
const COMMANDS: &[&str] = &[
    "b", "bench", "build", "c", "check", "clippy", "d", "doc", "fix", "r", "run", "rustc", "rustdoc", "t",
    "test",
];
/// Abbreviations among them, and what they mean unless a configuration has an alias of that name.
const ABBREVIATIONS: &[(&str, &str)] =
    &[("b", "build"), ("c", "check"), ("d", "doc"), ("r", "run"), ("t", "test")];
/// Options before the command that have no value and no say in directories.
const PLAIN: &[&str] = &["-v", "-vv", "--verbose", "-q", "--quiet", "--offline", "--locked", "--frozen"];
/// Options with a value of their own after the command; a program's arguments can't be taken for these values.
const VALUED: &[&str] = &[
    "-p",
    "--package",
    "--exclude",
    "--bin",
    "--example",
    "--test",
    "--bench",
    "-F",
    "--features",
    "-j",
    "--jobs",
    "--profile",
    "--target",
    "--color",
    "--message-format",
];

const CHECKS: &[&str] = &["c", "check", "clippy", "d", "doc", "fix", "rustdoc"];
/// Commands and options that build what needs development dependencies.
const TESTS: &[&str] = &[
    "bench",
    "fix",
    "t",
    "test",
    "--all-targets",
    "--bench",
    "--benches",
    "--example",
    "--examples",
    "--test",
    "--tests",
];

/// Reads Cargo's arguments, without the program's name.
///
/// # Errors
/// With the doubt, where the directories can't be told.
pub fn parse(args: &[String]) -> Result<CargoCall, Doubt> {
    let mut call = CargoCall::default();
    let mut rest = args.iter();
    let command = loop {
        let arg = rest.next().ok_or(Doubt::Nothing)?;
        match arg.as_str() {
            plain if PLAIN.contains(&plain) => {}
            // What it changes is the working directory, which is looked at anyway.
            "-C" | "--color" => drop(rest.next()),
            color if color.starts_with("--color=") => {}
            config if takes_config(config) => call.pass_on(config, &mut rest)?,
            unstable if unstable.starts_with("-Z") => call.pass_on_unstable(unstable, &mut rest)?,
            option if option.starts_with(['-', '+']) => return Err(Doubt::Option(option.to_owned())),
            command => break command,
        }
    };
    if !COMMANDS.contains(&command) {
        return Err(Doubt::Subcommand(command.to_owned()));
    }
    let is_abbreviation = ABBREVIATIONS.iter().any(|(short, _)| *short == command);
    call.abbreviation = is_abbreviation.then(|| command.to_owned());
    call.profile = profile_dir(if command == "bench" { "bench" } else { "dev" }).to_owned();
    call.is_check = CHECKS.contains(&command);
    call.is_testing = TESTS.contains(&command);
    let takes_trailing = matches!(command, "r" | "run");
    let mut before = "";
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--" => break,
            "--target-dir" => call.target_dir = rest.next().cloned(),
            "-r" | "--release" => call.profile = profile_dir("release").to_owned(),
            "--lockfile-path" | "--build-dir" => return Err(Doubt::Option(arg.clone())),
            lockfile if lockfile.starts_with("--lockfile-path=") => {
                return Err(Doubt::Option(lockfile.to_owned()));
            }
            unstable if unstable.starts_with("-Z") => call.pass_on_unstable(unstable, &mut rest)?,
            "--manifest-path" => call.pass_on(arg, &mut rest)?,
            manifest if manifest.starts_with("--manifest-path=") => call.passed_on.push(arg.clone()),
            config if takes_config(config) => call.pass_on(config, &mut rest)?,
            "--workspace" | "--all" => call.is_workspace = true,
            test if TESTS.contains(&test.split('=').next().unwrap_or(test)) && test.starts_with('-') => {
                call.is_testing = true;
            }
            other => {
                let named = value(other, before, &["--profile"]);
                call.is_testing |= matches!(named, Some("test" | "bench"));
                call.targets.extend(value(other, before, &["--target"]).map(str::to_owned));
                call.packages.extend(value(other, before, &["-p", "--package"]).map(str::to_owned));
                if let Some(dir) = other.strip_prefix("--target-dir=") {
                    call.target_dir = Some(dir.to_owned());
                } else if let Some(name) = named {
                    call.profile = profile_dir(name).to_owned();
                } else if takes_trailing && !other.starts_with('-') && !VALUED.contains(&before) {
                    // The program's own arguments begin here.
                    break;
                }
            }
        }
        before = arg;
    }
    // It becomes a part of a path. Cargo refuses other names, but may not have come to that yet.
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    if call.profile.is_empty() || !call.profile.chars().all(is_name) {
        return Err(Doubt::Option(format!("--profile={}", call.profile)));
    }
    Ok(call)
}

/// The value of one of these options, where `arg` holds it: behind the option or after it.
fn value<'a>(arg: &'a str, before: &str, names: &[&str]) -> Option<&'a str> {
    if names.contains(&before) {
        return Some(arg);
    }
    names.iter().find_map(|name| match arg.strip_prefix(name)? {
        "" => None,
        rest if name.starts_with("--") => rest.strip_prefix('='),
        rest => Some(rest.strip_prefix('=').unwrap_or(rest)),
    })
}

/// Name of the directory of a profile.
fn profile_dir(profile: &str) -> &str {
    match profile {
        "dev" | "test" => "debug",
        "bench" => "release",
        other => other,
    }
}

/// Whether a line of `cargo --list` says that an abbreviation means what it usually does.
pub fn is_usual(short: &str, line: &str) -> bool {
    let full = ABBREVIATIONS.iter().find(|(known, _)| *known == short).map(|(_, full)| *full);
    let words: Vec<&str> = line.split_whitespace().collect();
    matches!((words.as_slice(), full), ([name, "alias:", meaning], Some(full)) if *name == short && *meaning == full)
}

fn takes_config(arg: &str) -> bool {
    arg == "--config" || arg.starts_with("--config=")
}

impl CargoCall {
    pub fn configs(&self) -> Vec<String> {
        let mut rest = self.passed_on.iter();
        let mut configs = Vec::new();
        while let Some(arg) = rest.next() {
            let value =
                if matches!(arg.as_str(), "--config" | "--manifest-path") { rest.next() } else { None };
            if takes_config(arg) {
                configs.push(arg.clone());
                configs.extend(value.cloned());
            }
        }
        configs
    }

    /// The last `--manifest-path`.
    pub fn manifest(&self) -> Option<&str> {
        let pairs =
            self.passed_on.iter().zip(std::iter::once("").chain(self.passed_on.iter().map(String::as_str)));
        pairs.filter_map(|(arg, before)| value(arg, before, &["--manifest-path"])).last()
    }

    /// Unstable features that the arguments ask for, in order.
    pub fn unstable(&self) -> impl Iterator<Item = &str> {
        self.passed_on.iter().map(String::as_str).filter(|arg| arg.starts_with("-Z"))
    }

    fn pass_on_unstable<'a>(
        &mut self,
        arg: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), Doubt> {
        let is_whole = arg.len() > "-Z".len();
        let value = if is_whole { "" } else { rest.next().ok_or_else(|| Doubt::Option(arg.to_owned()))? };
        self.passed_on.push(format!("{arg}{value}"));
        Ok(())
    }

    fn pass_on<'a>(&mut self, arg: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<(), Doubt> {
        self.passed_on.push(arg.to_owned());
        if !arg.contains('=') {
            self.passed_on.push(rest.next().ok_or_else(|| Doubt::Option(arg.to_owned()))?.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<CargoCall, Doubt> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_decides_about_directories_is_found() {
        for (line, passed_on, target_dir) in [
            ("build", "", None),
            ("-v --offline -C sub t --release", "", None),
            ("--config a.b=1 check --target-dir out", "--config a.b=1", Some("out")),
            ("b --target-dir=o --manifest-path x/Cargo.toml", "--manifest-path x/Cargo.toml", Some("o")),
            ("b --manifest-path=x --config=y.toml", "--manifest-path=x --config=y.toml", None),
            ("test -- --target-dir no", "", None),
            ("run --bin x --target-dir yes -- a", "", Some("yes")),
            ("run arg --target-dir no", "", None),
            ("run -v arg --target-dir no", "", None),
            ("-Zx build -Z y=1 --target-dir o", "-Zx -Zy=1", Some("o")),
            ("run -Z x arg --target-dir no", "-Zx", None),
        ] {
            let call = parsed(line).unwrap_or_else(|doubt| panic!("{line}: {doubt}"));
            assert_eq!(call.passed_on.join(" "), passed_on, "{line}");
            assert_eq!(call.target_dir.as_deref(), target_dir, "{line}");
        }
    }

    #[test]
    fn the_profile_is_that_of_the_arguments() {
        for (line, profile) in [
            ("build", "debug"),
            ("t", "debug"),
            ("bench", "release"),
            ("b -r", "release"),
            ("build --profile dev --release", "release"),
            ("build --profile=test", "debug"),
            ("build --profile fast", "fast"),
            ("run --profile fast x --release", "fast"),
            ("test -- --release", "debug"),
        ] {
            assert_eq!(parsed(line).expect("known").profile, profile, "{line}");
        }
    }

    #[test]
    fn what_is_built_is_told_as_far_as_the_arguments_say_it() {
        for (line, packages, targets, flags) in [
            ("build", "", "", ""),
            ("b -p a --package=b -pc --target x --target=y", "a b c", "x y", ""),
            ("check --workspace", "", "", "whole check"),
            ("test -p=a@1.0.0 -- -p no", "a@1.0.0", "", "test"),
            ("build --tests --manifest-path x", "", "", "test"),
            ("build --example=x", "", "", "test"),
            ("doc --all --target x", "", "x", "whole check"),
            ("run -p a arg -p no", "a", "", ""),
            ("check --profile test", "", "", "test check"),
            ("build --bin bench", "", "", ""),
        ] {
            let call = parsed(line).unwrap_or_else(|doubt| panic!("{line}: {doubt}"));
            let found = (call.packages.join(" "), call.targets.join(" "));
            assert_eq!(found, (packages.to_owned(), targets.to_owned()), "{line}");
            let all = [(call.is_workspace, "whole"), (call.is_testing, "test"), (call.is_check, "check")];
            let set: Vec<&str> = all.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
            assert_eq!(set.join(" "), flags, "{line}");
            assert_eq!(call.manifest().is_some(), line.contains("--manifest-path"), "{line}");
        }
    }

    #[test]
    fn abbreviations_are_as_good_as_what_cargo_lists() {
        assert_eq!(parsed("build").expect("known").abbreviation, None);
        assert_eq!(parsed("t --release").expect("known").abbreviation.as_deref(), Some("t"));
        for (line, is_it) in [
            ("    b                    alias: build", true),
            ("    b                    alias: build --release", false),
            ("    b                    alias: check", false),
            ("    t                    alias: test", false),
            ("    build                Compile a local package", false),
        ] {
            assert_eq!(is_usual("b", line), is_it, "{line}");
        }
        let call =
            parsed("--config a.b=1 b -Zx --manifest-path x --config y.toml --config=z").expect("known");
        assert_eq!(call.unstable().collect::<Vec<_>>(), ["-Zx"]);
        assert_eq!(call.configs().join(" "), "--config a.b=1 --config y.toml --config=z");
    }

    #[test]
    fn doubts() {
        for (line, doubt) in [
            ("", Doubt::Nothing),
            ("metadata", Doubt::Subcommand("metadata".into())),
            ("install x", Doubt::Subcommand("install".into())),
            ("xtask", Doubt::Subcommand("xtask".into())),
            ("build -Z", Doubt::Option("-Z".into())),
            ("+nightly build", Doubt::Option("+nightly".into())),
            ("build --lockfile-path=x", Doubt::Option("--lockfile-path=x".into())),
            ("build --config", Doubt::Option("--config".into())),
            ("build --profile ../../elsewhere", Doubt::Option("--profile=../../elsewhere".into())),
            ("build --profile=", Doubt::Option("--profile=".into())),
        ] {
            assert_eq!(parsed(line), Err(doubt), "{line}");
        }
    }
}
