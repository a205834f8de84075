//! A compiler that does what a script says. Answers `-vV` and `--print` like rustc; on a compile it runs
//! `<home>/script/<crate name>`, else `<home>/script/default`, else what rustc would do. `<home>` is the directory
//! above the one this program is in. One step a line, `#` starts a comment; `src/fake.rs` lists the steps.

use std::env;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::thread::sleep;
use std::time::Duration;

const DEFAULT: &str = "emit dep-info\nemit metadata\nannounce metadata\nemit link\nannounce link\n";

fn main() {
    let me = env::current_exe().expect("own path");
    let home = me.parent().and_then(Path::parent).expect("bin/ in a home").to_path_buf();
    let args = expand(env::args().skip(1).collect());
    // As rustc does at every start: kache tries by this whether reads of variables can be seen.
    let _ = env::var_os("RUSTC_LOG");
    log(&home, "all-calls", &args.join(" "));
    if args.iter().any(|a| a == "-vV" || a == "-V" || a == "--version") {
        print!("{}", fs::read_to_string(home.join("version")).expect("version"));
        return;
    }
    let unit = Unit::parse(&args);
    if !unit.prints.is_empty() {
        return answer(&home, &unit);
    }
    log(&home, "calls", &args.join(" "));
    let scripts = home.join("script");
    let script =
        [unit.name.as_str(), "default"].iter().find_map(|name| fs::read_to_string(scripts.join(name)).ok());
    let mut job = Job { unit, deps: Vec::new(), env_deps: Vec::new() };
    for line in script.as_deref().unwrap_or(DEFAULT).lines() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            let (step, rest) = line.split_once(' ').unwrap_or((line, ""));
            job.step(step, rest);
        }
    }
}

fn expand(args: Vec<String>) -> Vec<String> {
    let mut all = Vec::new();
    for arg in args {
        match arg.strip_prefix('@') {
            Some(file) => {
                all.extend(fs::read_to_string(file).expect("argument file").lines().map(str::to_owned))
            }
            None => all.push(arg),
        }
    }
    all
}

fn log(home: &Path, name: &str, line: &str) {
    // Counters of an instrumented compiler, as far as kache is concerned: no effect of the compile.
    let file = OpenOptions::new().create(true).append(true).open(home.join(format!("{name}.profraw")));
    writeln!(file.expect("open the log"), "{line}").expect("write the log");
}

#[derive(Default)]
struct Unit {
    name: String,
    types: Vec<String>,
    emit: Vec<String>,
    out_dir: PathBuf,
    extra: String,
    source: PathBuf,
    prints: Vec<String>,
    all: Vec<String>,
    notify: bool,
}

impl Unit {
    fn parse(args: &[String]) -> Self {
        let mut unit = Unit { all: args.to_vec(), ..Unit::default() };
        let mut at = 0;
        while at < args.len() {
            let arg = args[at].as_str();
            let next = args.get(at + 1).cloned().unwrap_or_default();
            let (flag, inline) = match arg.split_once('=') {
                Some((flag, value)) if arg.starts_with("--") => (flag, Some(value.to_owned())),
                _ => (arg, None),
            };
            let takes = inline.is_none();
            let value = inline.unwrap_or(next);
            match flag {
                "--crate-name" => unit.name = value,
                "--crate-type" => unit.types.push(value),
                "--emit" => unit.emit.extend(value.split(',').map(str::to_owned)),
                "--out-dir" => unit.out_dir = PathBuf::from(value),
                "--print" => unit.prints.push(value),
                "--json" => unit.notify |= value.contains("artifacts"),
                "-C" => {
                    if let Some(extra) = value.strip_prefix("extra-filename=") {
                        unit.extra = extra.to_owned();
                    }
                }
                "-L"
                | "-l"
                | "--extern"
                | "--cfg"
                | "--check-cfg"
                | "--edition"
                | "--cap-lints"
                | "-A"
                | "-W"
                | "-D"
                | "-F"
                | "--target"
                | "--error-format"
                | "--remap-path-prefix"
                | "--remap-path-scope"
                | "--diagnostic-width"
                | "--sysroot" => {}
                _ => {
                    if !arg.starts_with('-') || arg == "-" {
                        unit.source = PathBuf::from(arg);
                    }
                    at += 1;
                    continue;
                }
            }
            at += if takes { 2 } else { 1 };
        }
        unit
    }

    fn output(&self, kind: &str) -> PathBuf {
        let stem = format!("{}{}", self.name, self.extra);
        let linked = match self.types.first().map(String::as_str) {
            Some("lib" | "rlib") => format!("lib{stem}.rlib"),
            Some("proc-macro" | "dylib" | "cdylib") => format!("lib{stem}.so"),
            Some("staticlib") => format!("lib{stem}.a"),
            _ => stem.clone(),
        };
        self.out_dir.join(match kind {
            "dep-info" => format!("{stem}.d"),
            "metadata" => format!("lib{stem}.rmeta"),
            "link" => linked,
            other => other.to_owned(),
        })
    }
}

fn answer(home: &Path, unit: &Unit) {
    for what in &unit.prints {
        match what.as_str() {
            "sysroot" => println!("{}", home.display()),
            "crate-name" => println!("{}", unit.name),
            "split-debuginfo" => println!("off\npacked\nunpacked"),
            "host-tuple" => println!("x86_64-unknown-linux-gnu"),
            "cfg" => println!("debug_assertions\ntarget_arch=\"x86_64\"\ntarget_os=\"linux\"\nunix"),
            "file-names" => {
                for kind in &unit.types {
                    let one = Unit { name: unit.name.clone(), types: vec![kind.clone()], ..Unit::default() };
                    println!("{}", one.output("link").display());
                }
            }
            _ => {}
        }
    }
}

struct Job {
    unit: Unit,
    deps: Vec<String>,
    env_deps: Vec<String>,
}

impl Job {
    fn step(&mut self, step: &str, rest: &str) {
        let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match step {
            "emit" => self.emit(word, text),
            "announce" => self.announce(word),
            "dep" => self.deps.push(rest.to_owned()),
            "env-dep" => self.env_deps.push(rest.to_owned()),
            "say" => eprintln!("{rest}"),
            "print" => println!("{rest}"),
            "diagnostic" => eprintln!("{}", diagnostic(word, text)),
            "wait" => wait_for(Path::new(rest)),
            "write" => fs::write(word, text).expect("write"),
            "read" => drop(fs::read(rest)),
            "list" => drop(fs::read_dir(rest).map(Iterator::count)),
            "remove" => drop(fs::remove_file(rest)),
            "sleep" => sleep(Duration::from_millis(rest.parse().expect("milliseconds"))),
            "exit" => exit(rest.parse().expect("exit code")),
            "kill" => kill(rest),
            _ => panic!("fake rustc: no step {step:?}"),
        }
    }

    fn emit(&self, kind: &str, text: &str) {
        if !self.unit.emit.iter().any(|e| e == kind) && ["dep-info", "metadata", "link"].contains(&kind) {
            return;
        }
        let file = self.unit.output(kind);
        let content = match kind {
            "dep-info" => self.dep_info(),
            _ if !text.is_empty() => text.to_owned(),
            _ => format!("fake {kind} of {} {:016x}\n", self.unit.name, self.digest()),
        };
        // As rustc does: dep-info in place, everything else as a new file.
        if kind != "dep-info" {
            let _ = fs::remove_file(&file);
        }
        fs::write(&file, content).unwrap_or_else(|e| panic!("fake rustc: write {}: {e}", file.display()));
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        fs::read(&self.unit.source).unwrap_or_default().hash(&mut hasher);
        self.deps.iter().for_each(|dep| fs::read(dep).unwrap_or_default().hash(&mut hasher));
        let mut cfgs = self.unit.all.windows(2).filter(|pair| pair[0] == "--cfg").map(|pair| &pair[1]);
        cfgs.by_ref().for_each(|cfg| cfg.hash(&mut hasher));
        hasher.finish()
    }

    fn dep_info(&self) -> String {
        let source = self.unit.source.to_string_lossy().replace(' ', "\\ ");
        let mut inputs = vec![source];
        inputs.extend(self.deps.iter().map(|dep| dep.replace(' ', "\\ ")));
        let mut text = String::new();
        for kind in &self.unit.emit {
            text += &format!("{}: {}\n\n", self.unit.output(kind).display(), inputs.join(" "));
        }
        inputs.iter().for_each(|input| text += &format!("{input}:\n"));
        if !self.env_deps.is_empty() {
            text += "\n";
        }
        for name in &self.env_deps {
            match env::var(name) {
                Ok(value) => text += &format!("# env-dep:{name}={value}\n"),
                Err(_) => text += &format!("# env-dep:{name}\n"),
            }
        }
        text
    }

    fn announce(&self, kind: &str) {
        if self.unit.notify && self.unit.emit.iter().any(|e| e == kind) {
            let path = self.unit.output(kind).display().to_string();
            eprintln!("{{\"$message_type\":\"artifact\",\"artifact\":{path:?},\"emit\":\"{kind}\"}}");
        }
    }
}

fn diagnostic(level: &str, text: &str) -> String {
    format!(
        "{{\"$message_type\":\"diagnostic\",\"message\":{text:?},\"code\":null,\"level\":\"{level}\",\"spans\":[],\
         \"children\":[],\"rendered\":{:?}}}",
        format!("{level}: {text}\n\n")
    )
}

fn wait_for(file: &Path) {
    for _ in 0..24_000 {
        if file.exists() {
            return;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("fake rustc: waited in vain for {}", file.display());
}

fn kill(signal: &str) {
    let _ = io::stdout().flush();
    let script = format!("kill -{signal} {}", std::process::id());
    let _ = Command::new("/bin/sh").args(["-c", &script]).status();
    sleep(Duration::from_secs(10));
}
