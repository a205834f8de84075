//! Sits between Cargo and the wrapper under test, writes down every compile call and checks the protocol: each
//! announced file exists, is complete and is announced once; nothing but JSON lines goes to standard error.
//!
//! `AUDIT_NEXT` is the wrapper under test (empty: none), `AUDIT_DIR` gets one `*.call` per compile and `violations`.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio, exit};

fn main() {
    let mut args: Vec<OsString> = env::args_os().skip(1).collect();
    let dir = PathBuf::from(env::var_os("AUDIT_DIR").expect("AUDIT_DIR"));
    let recorded = args.clone();
    if let Some(next) = env::var_os("AUDIT_NEXT").filter(|next| !next.is_empty()) {
        args.insert(0, next);
    }
    let mut command = Command::new(&args[0]);
    command.args(&args[1..]);
    if !is_compile(&recorded) {
        panic!("start {:?}: {}", args[0], command.exec());
    }
    record(&dir, &recorded);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("start the wrapper under test");
    let mut announced: HashMap<PathBuf, u64> = HashMap::new();
    let mut pipe = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).expect("read standard error") > 0 {
        check_line(&dir, &String::from_utf8_lossy(&line), &mut announced);
        io::stderr().write_all(&line).expect("pass on standard error");
        line.clear();
    }
    let status = child.wait().expect("wait for the wrapper under test");
    for (file, before) in &announced {
        if digest(file) != Some(*before) {
            violation(&dir, &format!("{} changed after it was announced", file.display()));
        }
    }
    finish(status);
}

fn is_compile(args: &[OsString]) -> bool {
    let name = args.iter().position(|a| a == "--crate-name").and_then(|at| args.get(at + 1));
    let in_file = args.iter().any(|a| a.as_bytes().starts_with(b"@"));
    in_file || name.is_some_and(|name| name != "___")
}

fn record(dir: &Path, args: &[OsString]) {
    let mut bytes = Vec::new();
    let mut field = |tag: &str, value: &[u8]| {
        bytes.extend_from_slice(tag.as_bytes());
        bytes.extend_from_slice(value);
        bytes.push(0);
    };
    field("cwd:", env::current_dir().expect("working directory").as_os_str().as_bytes());
    for arg in args {
        field("arg:", arg.as_bytes());
    }
    for (name, value) in env::vars_os() {
        field("env:", &[name.as_bytes(), b"=", value.as_bytes()].concat());
    }
    let file = dir.join(format!("{:06}-{}.call", count(dir), std::process::id()));
    fs::write(&file, bytes).expect("write the call down");
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).map(|list| list.count()).unwrap_or(0)
}

fn check_line(dir: &Path, line: &str, announced: &mut HashMap<PathBuf, u64>) {
    if !line.starts_with('{') || !line.ends_with("}\n") {
        return violation(dir, &format!("not a JSON line: {line:?}"));
    }
    if !line.contains("\"$message_type\":\"artifact\"") {
        return;
    }
    let Some(path) = string_field(line, "artifact") else {
        return violation(dir, &format!("no path in {line:?}"));
    };
    match digest(&path) {
        None => violation(dir, &format!("{} announced before it exists", path.display())),
        Some(digest) => {
            if announced.insert(path.clone(), digest).is_some() {
                violation(dir, &format!("{} announced twice", path.display()));
            }
        }
    }
}

/// The value of a string field in a flat JSON object.
fn string_field(line: &str, name: &str) -> Option<PathBuf> {
    let rest = line.split_once(&format!("\"{name}\":\""))?.1;
    let mut value = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(PathBuf::from(value)),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

fn digest(file: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    fs::read(file).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

fn violation(dir: &Path, text: &str) {
    let mut file =
        OpenOptions::new().create(true).append(true).open(dir.join("violations")).expect("open violations");
    writeln!(file, "{text}").expect("write a violation");
}

fn finish(status: ExitStatus) -> ! {
    if let Some(signal) = status.signal() {
        let script = format!("kill -{signal} {}", std::process::id());
        let _ = Command::new("/bin/sh").args(["-c", &script]).status();
    }
    exit(status.code().unwrap_or(101));
}
