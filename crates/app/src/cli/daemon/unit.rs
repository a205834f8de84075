//! The daemon as a service of the user: a systemd unit, or an agent of launchd on macOS. Where neither is there, says how
//! the daemon gets started without.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kache_core::config::{Remote, Settings, env};
use kache_core::protocol::Status as Health;
use kache_store::Store;

use crate::cargo_config::find_program;
use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

const UNIT: &str = "kache.service";
const LABEL: &str = "kache.daemon";

/// What starts programs for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Systemd,
    Launchd,
}

impl Manager {
    const HERE: Manager = if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd };

    /// Where it looks for the file.
    fn file(self, set: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        let absolute = |name: &str| set(name).filter(|path| path.is_absolute());
        let home = absolute(env::HOME);
        match self {
            Manager::Launchd => Some(home?.join("Library/LaunchAgents").join(format!("{LABEL}.plist"))),
            Manager::Systemd => {
                let config = absolute(env::XDG_CONFIG_HOME).or_else(|| Some(home?.join(".config")))?;
                Some(config.join("systemd/user").join(UNIT))
            }
        }
    }

    fn text(self, program: &Path, variables: &[(&str, String)]) -> String {
        match self {
            Manager::Systemd => systemd_unit(program, variables),
            Manager::Launchd => launchd_agent(program, variables),
        }
    }

    /// What to run so that it takes the file up, and so that it forgets it. The first word is the program.
    fn commands(self, file: &Path, install: Change) -> Vec<Vec<String>> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
        let file = file.display().to_string();
        match (self, install) {
            (Manager::Systemd, Change::Install) => vec![
                words("systemctl --user daemon-reload"),
                words(&format!("systemctl --user enable {UNIT}")),
                words(&format!("systemctl --user restart {UNIT}")),
            ],
            (Manager::Systemd, Change::Uninstall) => {
                vec![words(&format!("systemctl --user disable --now {UNIT}"))]
            }
            (Manager::Launchd, Change::Install) => {
                vec![[words("launchctl load -w"), vec![file]].concat()]
            }
            (Manager::Launchd, Change::Uninstall) => {
                vec![[words("launchctl unload -w"), vec![file]].concat()]
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Install,
    Uninstall,
}

/// Registers the daemon, says what was done, and starts it. One that runs already makes way: it would keep the lock, and
/// the service would end at once.
pub fn install(store: &Store, settings: &Settings, ui: &Ui) -> Outcome {
    let manager = Manager::HERE;
    let program = std::env::current_exe()
        .map_err(|error| CliError::failure("this program's own path is unknown").because(&error))?;
    let file = manager.file(|name| std::env::var_os(name).map(PathBuf::from)).ok_or_else(no_home)?;
    let text = manager.text(&program, &variables(settings, |name| std::env::var(name).ok()));
    if std::fs::read_to_string(&file).is_ok_and(|old| old == text) {
        ui.status(&format!("{} is as it should be.", file.display()));
    } else {
        write(&file, &text).map_err(|error| CliError::file("write", &file, &error))?;
        ui.status(&format!("Wrote {}.", file.display()));
    }
    let commands = manager.commands(&file, Change::Install);
    let path = std::env::var_os(env::PATH);
    let is_there = find_program(OsStr::new(&commands[0][0]), path.as_deref()).is_some();
    if is_there && crate::health::of_daemon(store).is_ok_and(|health| health.is_some()) {
        super::stop(store, ui)?;
    }
    match run_all(&commands) {
        Ok(()) => match super::until_healthy(store) {
            Ok(health) => {
                ui.status("The daemon runs now and starts at every login.");
                if let Some(why) = other_remote(&health, settings) {
                    ui.warn(&why);
                    ui.status(
                        "Put `[cache.remote]` into ~/.config/kache/config.toml: a service sees neither the variables of \
                         this shell nor a project's settings. Or undo this with `kache daemon uninstall`; builds start \
                         a daemon with their own settings.",
                    );
                }
            }
            Err(error) => return Err(error.hint("`kache daemon log` may say why")),
        },
        Err(why) => {
            ui.warn(&format!("no service manager took it up: {why}"));
            ui.status(
                "That is no obstacle: a build starts the daemon when it needs it, and `kache daemon start` starts it \
                 now.",
            );
        }
    }
    Ok(Status::Done)
}

/// What is wrong when the service got another remote from its settings than builds here get from theirs.
fn other_remote(health: &Health, settings: &Settings) -> Option<String> {
    let here = settings.remote()?;
    (health.remote_id != Some(here.identity())).then(|| {
        let theirs = if health.remote.is_empty() { "no remote" } else { health.remote.as_str() };
        let here = here.describe();
        if theirs == here {
            return format!(
                "the service serves {here} as somebody else than builds here, so it serves none of them"
            );
        }
        format!("the service serves {theirs}, builds here use {here}: it serves none of them")
    })
}

/// Undoes [`install`].
pub fn uninstall(ui: &Ui) -> Outcome {
    let manager = Manager::HERE;
    let file = manager.file(|name| std::env::var_os(name).map(PathBuf::from)).ok_or_else(no_home)?;
    if !file.exists() {
        ui.status("No service is installed.");
        return Ok(Status::Done);
    }
    if let Err(why) = run_all(&manager.commands(&file, Change::Uninstall)) {
        ui.warn(&format!("the service manager wasn't told: {why}"));
    }
    std::fs::remove_file(&file).map_err(|error| CliError::file("remove", &file, &error))?;
    ui.status(&format!("Removed {}.", file.display()));
    Ok(Status::Done)
}

fn no_home() -> CliError {
    CliError::failure("there is no home directory").hint("`kache daemon start` works without one")
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(file, text)
}

/// Runs commands one after the other; the first that fails says why.
fn run_all(commands: &[Vec<String>]) -> Result<(), String> {
    for words in commands {
        let Some((program, args)) = words.split_first() else { continue };
        let output = Command::new(program).args(args).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().next().unwrap_or("it failed without a word").trim();
            return Err(format!("`{}`: {line}", words.join(" ")));
        }
    }
    Ok(())
}

/// Variables that the service needs to serve the same store: it doesn't get those of a shell. A service that is asked
/// for stays.
fn variables(settings: &Settings, env: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, String)> {
    let mut variables = vec![(env::KACHE_DAEMON_IDLE_TIMEOUT, "0".to_owned())];
    if let Some(dir) = env(env::KACHE_CACHE_DIR) {
        variables.push((env::KACHE_CACHE_DIR, dir));
    }
    if let Some(file) = settings.file.as_ref().filter(|_| env(env::KACHE_CONFIG).is_some()) {
        variables.push((env::KACHE_CONFIG, file.clone()));
    }
    // Who one is, where the session decides that; never a key.
    let ambient = settings.remote().map(Remote::ambient).unwrap_or_default();
    let who = [
        env::AWS_PROFILE,
        env::AWS_CONFIG_FILE,
        env::AWS_SHARED_CREDENTIALS_FILE,
        env::GOOGLE_APPLICATION_CREDENTIALS,
        env::CLOUDSDK_CONFIG,
        env::AZURE_STORAGE_ACCOUNT,
    ];
    let who = who.into_iter().filter(|name| ambient.iter().any(|start| name.starts_with(start)));
    variables.extend(who.filter_map(|name| Some((name, env(name)?))));
    variables
}

fn systemd_unit(program: &Path, variables: &[(&str, String)]) -> String {
    // Neither in the name of the program nor in `Environment=` is `$` a special character.
    let quote = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        format!("\"{text}\"")
    };
    let environment: String = variables
        .iter()
        .map(|(name, value)| format!("Environment={}\n", quote(&format!("{name}={value}"))))
        .collect();
    format!(
        "[Unit]\nDescription=Daemon of the build cache kache\n\n[Service]\nExecStart={} daemon run\n{environment}\
         Restart=on-failure\nRestartSec=10\nNice=5\nTimeoutStopSec=45\n\n[Install]\nWantedBy=default.target\n",
        quote(&program.to_string_lossy())
    )
}

fn launchd_agent(program: &Path, variables: &[(&str, String)]) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let string = |text: &str| format!("<string>{}</string>", escape(text));
    let environment: String =
        variables.iter().map(|(name, value)| format!("<key>{name}</key>{}", string(value))).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>\n<key>Label</key>{}\n\
         <key>ProgramArguments</key><array>{}{}{}</array>\n\
         <key>EnvironmentVariables</key><dict>{environment}</dict>\n<key>RunAtLoad</key><true/>\n\
         <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>\n\
         <key>ProcessType</key><string>Background</string>\n</dict></plist>\n",
        string(LABEL),
        string(&program.to_string_lossy()),
        string("daemon"),
        string("run"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_names_the_program_and_its_store_whatever_is_in_their_names() {
        let settings = Settings::resolve(None, |_| None).expect("settings").0;
        let env = |name: &str| (name == env::KACHE_CACHE_DIR).then(|| "/c 100% $A".to_owned());
        let variables = variables(&settings, env);
        let text = systemd_unit(Path::new("/opt/my $tools 1%/kache"), &variables);
        assert!(text.contains("ExecStart=\"/opt/my $tools 1%%/kache\" daemon run\n"), "{text}");
        assert!(text.contains("Environment=\"KACHE_CACHE_DIR=/c 100%% $A\"\n"), "{text}");
        assert!(text.contains("Environment=\"KACHE_DAEMON_IDLE_TIMEOUT=0\"\n"), "{text}");
        assert!(!text.contains("KACHE_CONFIG"));
        let agent = launchd_agent(Path::new("/a&b/kache"), &variables);
        assert!(agent.contains("<string>/a&amp;b/kache</string><string>daemon</string>"), "{agent}");
    }

    #[test]
    fn a_service_is_told_who_one_is_and_no_secret() {
        let bucket = |name: &str| (name == env::KACHE_S3_BUCKET).then(|| "b".into());
        let settings = Settings::resolve(None, bucket).expect("settings").0;
        let variables = variables(&settings, |name| Some(format!("value of {name}")));
        let names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
        assert!(names.contains(&env::AWS_PROFILE), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("KEY") || name.contains("TOKEN")), "{names:?}");
    }

    #[test]
    fn a_service_with_another_remote_is_noticed() {
        let of = |bucket: &'static str, profile: Option<&'static str>| {
            let value = move |name: &str| match name {
                env::KACHE_S3_BUCKET => Some(bucket.into()),
                env::AWS_PROFILE => profile.map(Into::into),
                _ => None,
            };
            Settings::resolve(None, value).expect("settings").0
        };
        let serving = |settings: &Settings| {
            let remote = settings.remote();
            Health {
                remote: remote.map(|remote| remote.describe()).unwrap_or_default(),
                remote_id: remote.map(|remote| remote.identity()),
                ..Health::default()
            }
        };
        let here = of("ours", None);
        assert_eq!(other_remote(&serving(&here), &here), None);
        let none = Settings::resolve(None, |_| None).expect("settings").0;
        assert_eq!(other_remote(&serving(&here), &none), None, "builds here use no remote");
        for (service, part) in [
            (&none, "serves no remote, builds here use s3://ours/"),
            (&of("theirs", None), "serves s3://theirs/"),
            (&of("ours", Some("ci")), "as somebody else"),
        ] {
            let why = other_remote(&serving(service), &here).expect("another remote");
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn files_are_where_the_managers_look() {
        let env = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/u"));
        let file = |manager: Manager| manager.file(env).map(|path| path.display().to_string());
        assert_eq!(file(Manager::Systemd).as_deref(), Some("/home/u/.config/systemd/user/kache.service"));
        assert_eq!(
            file(Manager::Launchd).as_deref(),
            Some("/home/u/Library/LaunchAgents/kache.daemon.plist")
        );
        assert_eq!(Manager::Systemd.file(|_| None), None);
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let command = |words: &[&str]| vec![words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()];
        assert_eq!(run_all(&command(&["true"])), Ok(()));
        assert!(run_all(&command(&["/nowhere/systemctl", "--user"])).is_err());
        let failed = run_all(&command(&["sh", "-c", "echo no bus >&2; exit 1"]));
        assert!(failed.is_err_and(|why| why.ends_with("no bus")));
    }
}
