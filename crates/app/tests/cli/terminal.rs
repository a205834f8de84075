//! Full-screen commands on a terminal of their own: they draw, and however they are told to end, the terminal is as it
//! was before.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use kache_testkit::wait_for;
use rustix::process::{Pid, Signal, kill_process};

use crate::Home;

/// Takes the alternate screen; gives it back; shows the cursor.
const TAKES: &str = "\x1b[?1049h";
const GIVES_BACK: &str = "\x1b[?1049l";
const SHOWS_CURSOR: &str = "\x1b[?25h";

/// Runs a command on a terminal of 80 by 24, ends it as told once `sign` is on the screen, and returns all that came.
fn on_a_terminal(home: &Home, args: &str, sign: &str, end: impl FnOnce(&mut dyn Write, Pid)) -> String {
    let kache = env!("CARGO_BIN_EXE_kache");
    let inner =
        home.write("inner", &format!("echo $$ >'{0}/pid'\nexec '{kache}' {args}\n", home.path("").display()));
    let outer = home.write(
        "outer",
        &format!(
            "stty rows 24 cols 80\nbefore=$(stty -g)\nsh '{}'\ncode=$?\n[ \"$before\" = \"$(stty -g)\" ] && echo \"restored $code\"\n",
            inner.display()
        ),
    );
    let mut command = Command::new("script");
    command.args(["-qec", &format!("sh '{}'", outer.display()), "/dev/null"]).env_clear();
    command
        .env("HOME", home.path(""))
        .env("TERM", "xterm")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir(home.path("")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = command.spawn().expect("util-linux's script");
    let mut screen = running.stdout.take().expect("piped");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reading = std::thread::spawn({
        let seen = Arc::clone(&seen);
        move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                seen.lock().expect("not poisoned").extend_from_slice(&bytes[..count]);
            }
        }
    });
    let text = || String::from_utf8_lossy(&seen.lock().expect("not poisoned")).into_owned();
    wait_for(sign, || text().contains(sign));
    let pid = home.read("pid").trim().parse().ok().and_then(Pid::from_raw).expect("a process");
    end(&mut running.stdin.take().expect("piped"), pid);
    running.wait().expect("it ends");
    reading.join().expect("all is read");
    text()
}

#[test]
fn the_terminal_is_as_before_however_a_screen_ends() {
    let home = Home::new();
    type End = fn(&mut dyn Write, Pid);
    let ends: [(&str, End); 5] = [
        ("q", |keys, _| keys.write_all(b"q").expect("typed")),
        ("Ctrl-C", |keys, _| keys.write_all(b"\x03").expect("typed")),
        ("SIGTERM", |_, pid| kill_process(pid, Signal::TERM).expect("sent")),
        ("SIGINT", |_, pid| kill_process(pid, Signal::INT).expect("sent")),
        ("SIGHUP", |_, pid| kill_process(pid, Signal::HUP).expect("sent")),
    ];
    for (name, end) in ends {
        for (args, sign) in [("monitor", "[1 Build]"), ("config", "local_max_size")] {
            if args == "config" && name == "q" {
                continue;
            }
            let all = on_a_terminal(&home, args, sign, end);
            assert!(all.contains(TAKES), "{name}, {args}: {all:?}");
            let given_back = all.rfind(GIVES_BACK).expect("the screen is given back");
            assert!(given_back > all.rfind(TAKES).unwrap_or(usize::MAX), "{name}, {args}: {all:?}");
            assert!(
                all[given_back..].contains(SHOWS_CURSOR) || all.rfind(SHOWS_CURSOR) > all.rfind("\x1b[?25l")
            );
            assert!(all.contains("restored 0"), "{name}, {args}: {all:?}");
        }
    }
}
