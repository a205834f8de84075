//! `kache init`: what it shows, what it changes, and what it leaves alone.

use crate::Home;

const CONFIG: &str = ".cargo/config.toml";

fn me() -> String {
    std::fs::canonicalize(env!("CARGO_BIN_EXE_kache")).expect("binary").to_string_lossy().into_owned()
}

#[test]
fn check_shows_the_change_and_touches_nothing() {
    let home = Home::new();
    let ran = home.kache(&["init", "--check"]);
    assert_eq!(ran.code, 3);
    assert!(ran.out.contains("+ [build]\n") && ran.out.contains("+ rustc-wrapper = "), "{}", ran.out);
    assert!(!home.path(".cargo").exists());
}

#[test]
fn nothing_happens_without_somebody_to_ask() {
    let home = Home::new();
    let ran = home.kache(&["init"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("kache init -y"), "{}", ran.err);
    assert!(!home.path(".cargo").exists());
}

#[test]
fn the_second_run_changes_nothing() {
    let home = Home::new();
    assert_eq!(home.kache(&["init", "-y", "--no-service"]).code, 0);
    let text = home.read(CONFIG);
    assert_eq!(text, format!("[build]\nrustc-wrapper = \"{}\"\n", me()));
    let again = home.kache(&["init", "--check"]);
    assert_eq!((again.code, again.out.as_str()), (0, ""));
    assert_eq!(home.kache(&["init", "-y"]).code, 0);
    assert_eq!(home.read(CONFIG), text);
}

#[test]
fn comments_order_and_other_settings_stay() {
    let home = Home::new();
    let before = "# mine\n[net]\nretry = 3 # often\n\n[build]\njobs = 2\nrustc-wrapper = \"sccache\" # old\n";
    home.write(CONFIG, before);
    let ran = home.kache(&["init", "-y"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("sccache"), "{}", ran.err);
    assert!(ran.out.contains("- rustc-wrapper = \"sccache\" # old"), "{}", ran.out);
    assert_eq!(home.read(CONFIG), before.replace("\"sccache\"", &format!("\"{}\"", me())));
}

#[test]
fn a_kache_that_path_leads_to_is_written_by_name() {
    let home = Home::new();
    std::fs::create_dir(home.path("bin")).expect("directory");
    std::os::unix::fs::symlink(me(), home.path("bin/kache")).expect("link");
    let path = home.path("bin").to_string_lossy().into_owned();
    assert_eq!(home.kache_with(&["init", "-y"], &[("PATH", &path)]).code, 0);
    assert_eq!(home.read(CONFIG), "[build]\nrustc-wrapper = \"kache\"\n");
}

#[test]
fn what_overrides_the_users_file_is_named() {
    let home = Home::new();
    let ran = home.kache_with(&["init", "-y"], &[("RUSTC_WRAPPER", "")]);
    assert!(ran.err.contains("RUSTC_WRAPPER"), "{}", ran.err);
    let home = Home::new();
    home.write("p/.cargo/config.toml", "[build]\nrustc-wrapper = \"other\"\n");
    let mut command = home.command(&["init", "-y"]);
    let ran = crate::Ran::from(command.current_dir(home.path("p")).output().expect("kache runs"));
    assert!(ran.err.contains("p/.cargo/config.toml") && ran.err.contains("other"), "{}", ran.err);
}

#[test]
fn cargo_home_old_names_and_symbolic_links_are_respected() {
    let home = Home::new();
    let elsewhere = home.path("elsewhere").to_string_lossy().into_owned();
    home.write("elsewhere/config", "# old name\n");
    home.kache_with(&["init", "-y"], &[("CARGO_HOME", &elsewhere)]);
    assert!(home.read("elsewhere/config").contains("rustc-wrapper"));
    assert!(!home.path("elsewhere/config.toml").exists() && !home.path(".cargo").exists());

    home.write("dotfiles/cargo.toml", "# kept in git\n");
    std::fs::create_dir(home.path(".cargo")).expect("directory");
    std::os::unix::fs::symlink(home.path("dotfiles/cargo.toml"), home.path(CONFIG)).expect("link");
    home.kache(&["init", "-y"]);
    assert!(home.read("dotfiles/cargo.toml").starts_with("# kept in git\n\n[build]\n"));
    assert!(home.path(CONFIG).is_symlink());
}

#[test]
fn a_file_that_is_not_toml_is_left_alone() {
    let home = Home::new();
    home.write(CONFIG, "[build\n");
    let ran = home.kache(&["init", "-y"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("config.toml can't be edited") && ran.err.contains("line 1"), "{}", ran.err);
    assert_eq!(home.read(CONFIG), "[build\n");
}

/// A service only where there is a remote for it, only when it is wanted, and without a service manager all the same.
#[test]
fn a_remote_brings_a_service_along() {
    const UNIT: &str = if cfg!(target_os = "macos") {
        "Library/LaunchAgents/kache.daemon.plist"
    } else {
        ".config/systemd/user/kache.service"
    };
    let remote = ("KACHE_S3_BUCKET", "bucket");
    for (args, env, installed) in [
        (&["init", "-y"][..], &[][..], false),
        (&["init", "--check"], &[remote], false),
        (&["init", "-y", "--no-service"], &[remote], false),
        (&["init", "-y"], &[remote], true),
    ] {
        let home = Home::new();
        std::fs::create_dir(home.path("empty")).expect("directory");
        let path = home.path("empty").to_string_lossy().into_owned();
        // No service manager is found there.
        let env: Vec<(&str, &str)> = env.iter().copied().chain([("PATH", path.as_str())]).collect();
        let ran = home.kache_with(args, &env);
        assert_eq!(ran.code, if args.contains(&"--check") { 3 } else { 0 }, "{}", ran.err);
        assert_eq!(home.path(UNIT).exists(), installed, "{args:?}");
        assert_eq!(
            ran.err.contains("background service"),
            args.contains(&"--check") && !env.is_empty(),
            "{}",
            ran.err
        );
        if installed {
            assert!(home.read(UNIT).contains("daemon"), "{}", home.read(UNIT));
            assert!(ran.err.contains("a build starts the daemon when it needs it"), "{}", ran.err);
            let again = home.kache_with(&["daemon", "install"], &env);
            assert!(again.err.contains("is as it should be"), "{}", again.err);
            assert_eq!(home.kache_with(&["daemon", "uninstall"], &env).code, 0);
            assert!(!home.path(UNIT).exists());
        }
    }
}

#[test]
fn cleaning_is_switched_on_where_it_is_asked_for() {
    let home = Home::new();
    let auto = || {
        home.kache(&["config", "--list"])
            .out
            .lines()
            .find(|line| line.contains("clean.auto"))
            .map(str::to_owned)
    };
    assert_eq!(home.kache(&["init", "-y", "--no-service"]).code, 0);
    assert!(auto().is_some_and(|line| line.contains("false") && line.contains("default")), "{:?}", auto());
    home.write(".config/kache/config.toml", "# mine\n[cache]\nseed = false\n");
    let ran = home.kache(&["init", "-y", "--no-service", "--clean"]);
    assert!(ran.code == 0 && ran.err.contains("clean.auto = true"), "{}", ran.err);
    assert!(auto().is_some_and(|line| line.contains("true") && line.contains("file")), "{:?}", auto());
    let text = home.read(".config/kache/config.toml");
    assert!(text.starts_with("# mine\n[cache]\nseed = false\n"), "{text}");
    home.kache(&["init", "-y", "--no-service", "--clean"]);
    assert_eq!(home.read(".config/kache/config.toml"), text);
}
