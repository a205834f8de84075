//! Credentials as people have them: with a line feed, wrong at first, in a profile that isn't there. What is corrected
//! reaches the daemon that runs with the next build.

use kache_testkit::{Project, S3};

use crate::daemon::{Machine, of_kind, within};
use crate::fixtures::PAIR;
use crate::remote::{command, machine, ok};

/// What a command said; it must fail.
#[track_caller]
fn fails(project: &Project<'_>, args: &str) -> String {
    let output = command(project, args).output().expect("kache runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "kache {args}: {said}");
    assert!(!said.contains("panicked") && !said.contains(S3::SECRET_KEY), "{said}");
    said
}

#[test]
fn white_space_and_line_feeds_around_keys_are_left_out_and_told() {
    let server = S3::start();
    let (access, secret) = (format!("{}\n", S3::ACCESS_KEY), format!(" {}\r\n", S3::SECRET_KEY));
    for (access_name, secret_name) in
        [("KACHE_S3_ACCESS_KEY", "KACHE_S3_SECRET_KEY"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    {
        let here = machine(&server);
        for unset in ["KACHE_S3_ACCESS_KEY", "KACHE_S3_SECRET_KEY"] {
            here.set_env(unset, "");
        }
        here.set_env(access_name, &access);
        here.set_env(secret_name, &secret);
        let one = here.project("one", PAIR);
        one.cargo("build").ok();
        let said = ok(&one, "sync --push");
        for name in [access_name, secret_name] {
            assert!(said.contains(&format!("{name} begins or ends with white space")), "{said}");
        }
        assert!(!said.contains(S3::SECRET_KEY), "{said}");
        // In the middle it is a mistake, and the client must not see it.
        here.set_env(access_name, "AK\nTESTKIT");
        let output = command(&one, "sync --push").output().expect("kache runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code().is_some_and(|code| code == 1 || code == 2), "{output:?}");
        assert!(said.contains("white space") && !said.contains("panicked"), "{said}");
    }
    assert!(of_kind(&server, "/manifests/") > 0);
}

#[test]
fn a_daemon_takes_keys_with_line_feeds() {
    let server = S3::start();
    let machine = Machine::new(&server);
    machine.set_env("KACHE_S3_ACCESS_KEY", format!("{}\n", S3::ACCESS_KEY));
    let built = machine.project("one", PAIR).cargo("build").ok();
    let pid = machine.pid();
    within("the uploads", || machine.queue().is_empty());
    assert_eq!(machine.pid(), pid, "it was not started anew");
    assert_eq!(of_kind(&server, "/manifests/"), built.tally().results());
}

#[test]
fn a_profile_that_does_not_exist_is_named() {
    let server = S3::start();
    let here = machine(&server);
    for unset in ["KACHE_S3_ACCESS_KEY", "KACHE_S3_SECRET_KEY"] {
        here.set_env(unset, "");
    }
    here.set_env("KACHE_S3_PROFILE", "stagging");
    let one = here.project("one", PAIR);
    one.cargo("build").ok();
    let said = fails(&one, "sync --push");
    assert!(said.contains("`stagging`") && said.contains(".aws/"), "{said}");
    let doctor = command(&one, "doctor").output().expect("kache runs");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("`stagging`"), "{said}");
}

/// What was wrong, and how it is set right.
type Correction = (&'static str, fn(&Machine), fn(&Machine));

const CORRECTIONS: &[Correction] = &[
    (
        "the secret",
        |machine| machine.set_env("KACHE_S3_SECRET_KEY", "wrong"),
        |machine| machine.set_env("KACHE_S3_SECRET_KEY", S3::SECRET_KEY),
    ),
    (
        "the key",
        |machine| machine.set_env("KACHE_S3_ACCESS_KEY", "AKOLD"),
        |machine| machine.set_env("KACHE_S3_ACCESS_KEY", S3::ACCESS_KEY),
    ),
    (
        "the profile's file",
        |machine| {
            profile(machine, "mine", "wrong");
            machine.set_env("KACHE_S3_PROFILE", "mine");
            machine.set_env("KACHE_S3_ACCESS_KEY", "");
            machine.set_env("KACHE_S3_SECRET_KEY", "");
        },
        |machine| profile(machine, "mine", S3::SECRET_KEY),
    ),
    (
        "the profile's name",
        |machine| {
            profile(machine, "mine", S3::SECRET_KEY);
            machine.set_env("KACHE_S3_PROFILE", "other");
            machine.set_env("KACHE_S3_ACCESS_KEY", "");
            machine.set_env("KACHE_S3_SECRET_KEY", "");
        },
        |machine| machine.set_env("KACHE_S3_PROFILE", "mine"),
    ),
];

fn profile(machine: &Machine, name: &str, secret: &str) {
    let file = machine.root().join("home/.aws/credentials");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    let text =
        format!("[{name}]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n", S3::ACCESS_KEY);
    std::fs::write(file, text).expect("written");
}

#[test]
fn corrected_credentials_reach_the_daemon_with_the_next_build() {
    for (what, break_it, mend_it) in CORRECTIONS {
        let server = S3::start();
        let machine = Machine::new(&server);
        break_it(&machine);
        machine.project("one", PAIR).cargo("build").ok();
        within("the refusal", || !machine.status()["daemon"]["sick"].is_null());
        let said = machine.daemon("status");
        assert!(said.contains("the credentials are refused"), "{what}: {said}");
        assert!(!said.contains(S3::SECRET_KEY), "{what}: {said}");

        mend_it(&machine);
        let other = machine.project(
            "two",
            &[
                ("Cargo.toml", "[package]\nname = \"two\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
                ("src/lib.rs", "pub mod a;\n"),
                ("src/a.rs", "pub fn two() {}\n"),
                ("src/main.rs", "fn main() {\n    two::a::two();\n}\n"),
            ],
        );
        other.cargo("build").ok();
        within(&format!("what the next build made with {what} corrected"), || {
            of_kind(&server, "/manifests/two/") == 2
        });
        assert!(machine.status()["daemon"]["sick"].is_null(), "{what}: {}", machine.status());
    }
}
