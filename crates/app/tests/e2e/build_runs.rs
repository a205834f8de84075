//! Runs of build scripts as entries: what a script read is known, so on a match nothing runs; and a script that is linked
//! for kache works without it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use kache_testkit::{Project, Sandbox, walk};

use crate::support::{Outcomes, lean_lab};

/// A program that shows what its script left. `body` makes the `String` that the script writes to `OUT_DIR/d/g.txt`.
fn world<'s>(sandbox: &'s Sandbox, name: &str, body: &str) -> Project<'s> {
    let p = sandbox.project(
        name,
        &[
            ("Cargo.toml", "[workspace]\nmembers = [\"app\"]\nresolver = \"2\"\n"),
            ("app/Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
            (
                "app/src/main.rs",
                "fn main() { println!(\"{} {}\", include_str!(concat!(env!(\"OUT_DIR\"), \"/d/g.txt\")), env!(\"SAID\")); }\n",
            ),
        ],
    );
    script(&p, body);
    p
}

fn script(p: &Project<'_>, body: &str) {
    let source = format!(
        "#![allow(unused)]\nuse std::{{env, fs, io::Write, path::*, process::Command}};\nfn main() {{\n    \
         let out = PathBuf::from(env::var_os(\"OUT_DIR\").unwrap());\n    let text: String = {{ {body} }};\n    \
         fs::create_dir_all(out.join(\"d\")).unwrap();\n    fs::write(out.join(\"d/g.txt\"), &text).unwrap();\n    \
         println!(\"cargo:rustc-env=SAID={{text}}\");\n    println!(\"cargo:rerun-if-changed=/nowhere\");\n}}\n"
    );
    p.write("app/build.rs", source);
}

const READ_DATA: &str = r#"fs::read_to_string("../data.txt").unwrap_or_default()"#;

fn programs(p: &Project<'_>) -> Vec<PathBuf> {
    let is_script = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("build") && name.contains("script") && !name.contains('.')
    };
    let mut found: Vec<_> =
        walk(p.target()).into_iter().filter(|path| path.is_file() && is_script(path)).collect();
    found.retain(|path| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o100 != 0));
    found
}

#[test]
fn the_script_of_a_member_runs_once_for_all_checkouts() {
    let lab = lean_lab();
    let a = world(&lab, "a", READ_DATA);
    a.write("data.txt", "one");
    a.cargo("run").same().script("app", &["miss"]);
    let b = a.checkout("somewhere/else/b");
    b.cargo("run").same().script("app", &["hit"]);
    // Cargo runs it in the used directory, too, for it asks for a file that isn't there.
    a.write("data.txt", "two");
    a.cargo("run").same().script("app", &["miss"]);
    b.write("data.txt", "two");
    b.cargo("run").same().script("app", &["hit"]);
    a.write("data.txt", "one");
    a.cargo("run").same().script("app", &["hit"]);
    // One that watches its package alone is fresh after a run as after a hit.
    for (p, outcome) in [(&a, "miss"), (&b, "hit")] {
        p.edit("app/build.rs", "rerun-if-changed=/nowhere", "rerun-if-changed=build.rs");
        p.write("data.txt", "three");
        p.cargo("run").same().script("app", &[outcome]);
        p.nothing_to_do("build");
    }
}

/// Changes what a script reads to a state that the text stands for.
type Set = fn(&Project<'_>, &str);

const CASES: &[(&str, &str, Set)] = &[
    ("a file", READ_DATA, |p, text| p.write("data.txt", text)),
    ("a file that may be there", r#"format!("{}", Path::new("../flag").exists())"#, |p, text| match text {
        "one" => fs::remove_file(p.path("flag")).unwrap_or_default(),
        _ => p.write("flag", ""),
    }),
    (
        "a listing",
        r#"let mut n: Vec<_> = fs::read_dir("../list").unwrap().map(|e| e.unwrap().file_name()).collect(); n.sort(); format!("{n:?}")"#,
        |p, text| {
            p.write("list/a", "");
            match text {
                "one" => fs::remove_file(p.path("list/b")).unwrap_or_default(),
                _ => p.write("list/b", ""),
            }
        },
    ),
    ("a variable", r#"env::var("FLAVOUR").unwrap_or_default()"#, |p, text| {
        p.sandbox().set_env("FLAVOUR", text)
    }),
    (
        "a variable of a shell's",
        r#"String::from_utf8(Command::new("sh").args(["-c", "echo $flavour"]).output().unwrap().stdout).unwrap().trim().into()"#,
        |p, text| p.sandbox().set_env("flavour", text),
    ),
    (
        "an enumeration of variables",
        r#"env::vars().filter(|(n, _)| n.starts_with("my_")).map(|(n, v)| n + &v).collect()"#,
        |p, text| p.sandbox().set_env("my_flavour", text),
    ),
    (
        "a program",
        r#"String::from_utf8(Command::new("../tool").output().unwrap().stdout).unwrap().trim().into()"#,
        |p, text| {
            p.write("tool", format!("#!/bin/sh\necho {text}\n"));
            fs::set_permissions(p.path("tool"), PermissionsExt::from_mode(0o755))
                .expect("make it executable");
        },
    ),
    (
        "what a program reads",
        r#"String::from_utf8(Command::new("cat").arg("../data.txt").output().unwrap().stdout).unwrap()"#,
        |p, text| p.write("data.txt", text),
    ),
    (
        "a header of a C source",
        r#"let o = out.join("x"); assert!(Command::new("cc").args(["-I..", "-o"]).arg(&o).arg("../x.c").status().unwrap().success());
               String::from_utf8(Command::new(o).output().unwrap().stdout).unwrap()"#,
        |p, text| {
            p.write(
                "x.c",
                "#include <stdio.h>\n#include \"x.h\"\nint main(void) { printf(\"%s\", TEXT); return 0; }\n",
            );
            p.write("x.h", format!("#define TEXT \"{text}\"\n"));
        },
    ),
];

/// Nothing is declared; every case changes one thing that the script has read, and brings it back.
#[test]
fn everything_that_a_script_reads_counts() {
    for (what, body, set) in CASES {
        let lab = lean_lab();
        let p = world(&lab, "w", body);
        for (text, outcome) in [("one", "miss"), ("two", "miss"), ("one", "hit"), ("two", "hit")] {
            set(&p, text);
            p.wipe();
            let run = p.cargo("run").same();
            let found = run.tally().runs.remove("app").unwrap_or_default();
            assert_eq!(found, [outcome], "{what}, {text}: {run}");
        }
    }
}

/// What a script compiles into `OUT_DIR`, as `autocfg` and others do to find out what the compiler can do, is no unit of Cargo's,
/// although that directory looks like a unit's where each has one.
#[test]
fn a_script_that_tries_the_compiler_runs_once() {
    let call = r#"let rustc = |args: &[&str], source: Option<&str>| {
            let rustc = env::var_os("RUSTC").unwrap();
            let mut command = Command::new(env::var_os("RUSTC_WRAPPER").unwrap_or_else(|| rustc.clone()));
            if env::var_os("RUSTC_WRAPPER").is_some() { command.arg(rustc); }
            let mut child = command.args(args).arg("--out-dir").arg(&out).stdin(std::process::Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(source.unwrap_or_default().as_bytes()).unwrap();
            child.wait().unwrap().success()
        };
        // Metadata names the directory of the compile.
        let clean = || fs::read_dir(&out).unwrap().all(|item| { let path = item.unwrap().path(); path.is_dir() || fs::remove_file(path).is_ok() });
        let data = fs::read_to_string("../data.txt").unwrap_or_default();"#;
    for probe in [
        r#"rustc(&["--crate-name", "autocfg_1", "--crate-type=lib", "--emit=metadata", "-"], Some("pub fn f() {}"))"#,
        r#"rustc(&["--crate-name", "probe", "--crate-type=lib", "--emit=metadata", "p.rs"], None) && clean()"#,
        r#"rustc(&["--crate-name", "other", "--crate-type=rlib", "--edition=2021", "--emit=dep-info,metadata,link", "--error-format=json",
                   "--json=artifacts", "-Cmetadata=1", "-Cextra-filename=-1", "p.rs"], None) && clean()"#,
    ] {
        let lab = lean_lab();
        let a = world(&lab, "a", &format!("{call} format!(\"{{data}}{{}}\", {probe})"));
        a.write("data.txt", "one");
        a.write("app/p.rs", "pub fn f() {}");
        a.cargo("run").same().script("app", &["miss"]);
        a.wipe();
        a.cargo("run").same().script("app", &["hit"]);
        let b = a.checkout("somewhere/else/b");
        b.cargo("run").same().script("app", &["hit"]);
    }
}

/// A run with other effects than its output, or whose result is good for once, is done each time and says why.
#[test]
fn a_script_that_does_more_runs_each_time() {
    let cases = [
        ("it also wrote", r#"fs::write("../made", "x").unwrap(); String::new()"#),
        ("it also wrote", r#"fs::create_dir_all(env::temp_dir().join("left")).unwrap(); String::new()"#),
        (
            "it may have asked another machine",
            r#"std::net::TcpStream::connect("127.0.0.1:9").err(); String::new()"#,
        ),
        ("shows when it was made", r#"format!("{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_secs())"#),
        (
            "shows when it was made",
            r#"let d = Command::new("date").arg("+%F").output().unwrap(); String::from_utf8(d.stdout).unwrap().trim().into()"#,
        ),
    ];
    for (why, body) in cases {
        let lab = lean_lab();
        let p = world(&lab, "w", body);
        for _ in 0..2 {
            p.wipe();
            let _ = fs::remove_file(p.path("made"));
            let _ = fs::remove_dir_all(lab.root().join("tmp/left"));
            let run = p.cargo("build").ok();
            run.script("app", &["miss"]);
            let event = run.events.iter().find(|event| event.kind == "build-script-run").expect("a run");
            assert!(event.not_stored.contains(why), "{body}: {event}");
        }
    }
}

/// `OUT_DIR` holds what an earlier run left. A run that writes its files without reading these is stored; one that reads them
/// isn't.
#[test]
fn a_used_out_dir_is_as_an_empty_one_where_nothing_in_it_was_used() {
    let lab = lean_lab();
    let p = world(&lab, "w", READ_DATA);
    for text in ["one", "two"] {
        p.write("data.txt", text);
        p.cargo("run").same().script("app", &["miss"]);
    }
    p.write("data.txt", "one");
    p.cargo("run").same().script("app", &["hit"]);
    let lab = lean_lab();
    let count = r#"let n = fs::read_to_string(out.join("n")).map_or(0, |n| n.len()); fs::write(out.join("n"), "x".repeat(n + 1)).unwrap();
                   format!("{n} {}", fs::read_to_string("../data.txt").unwrap_or_default())"#;
    let p = world(&lab, "w", count);
    p.cargo("run").same().script("app", &["miss"]);
    p.write("data.txt", "two");
    let run = p.cargo("run").ok();
    run.script("app", &["miss"]);
    assert!(run.stdout.starts_with("1 two"), "{run}");
    let event = run.events.iter().find(|event| event.kind == "build-script-run").expect("a run");
    assert!(event.not_stored.contains("it used what an earlier run had left"), "{event}");
}

/// What an earlier run left and this one didn't make goes when its result is put back.
#[test]
fn a_result_that_is_put_back_is_that_of_a_clean_build() {
    let lab = lean_lab();
    let body =
        r#"let t = fs::read_to_string("../data.txt").unwrap(); fs::write(out.join(&t), "").unwrap(); t"#;
    let p = world(&lab, "w", body);
    let listed = |p: &Project<'_>| -> Vec<String> {
        let made = walk(p.target())
            .into_iter()
            .filter(|path| path.ends_with("out/one") || path.ends_with("out/two"));
        made.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
    };
    for text in ["one", "two"] {
        p.write("data.txt", text);
        p.wipe();
        p.cargo("run").same().script("app", &["miss"]);
    }
    p.write("data.txt", "one");
    p.cargo("run").same().script("app", &["hit"]);
    assert_eq!(listed(&p), ["one"]);
}

/// The linked program is the script: without kache, with another one, under any name, with arguments, started by itself.
#[test]
fn the_program_works_without_kache() {
    let lab = lean_lab();
    let body = r#"if env::args().nth(1).is_some() { println!("with {:?}", env::args().skip(1).collect::<Vec<_>>()); std::process::exit(7) }
        let again = Command::new(env::current_exe().unwrap()).arg("x").output().unwrap();
        assert_eq!(again.status.code(), Some(7), "{again:?}");
        if env::var_os("AGAIN").is_none() {
            let again = Command::new(env::current_exe().unwrap()).env("AGAIN", "1").output().unwrap();
            assert!(again.status.success(), "{again:?}");
        }
        "fine".into()"#;
    let p = world(&lab, "w", body);
    p.cargo("run").same().script("app", &["miss"]);
    let found = programs(&p);
    assert!(!found.is_empty(), "no build script below {}", p.target().display());
    let out_dir = lab.root().join("aside");
    fs::create_dir_all(&out_dir).expect("make a directory");
    let fake = lab.write_program("bin/kache-old", "#!/bin/sh\necho called >&2\nexec \"$@\"\n");
    let run = |wrapper: &str, args: &[&str], extra: &[(&str, &str)]| {
        let mut command = Command::new(&found[0]);
        command
            .args(args)
            .env_clear()
            .env("OUT_DIR", &out_dir)
            .env("PATH", "/usr/bin:/bin")
            .env("RUSTC_WRAPPER", wrapper);
        command
            .env("CARGO_MANIFEST_DIR", p.path("app"))
            .current_dir(p.path("app"))
            .envs(extra.iter().copied());
        let output = command.output().expect("run the build script");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let said = "cargo:rustc-env=SAID=fine\ncargo:rerun-if-changed=/nowhere\n".to_owned();
    let kache = lab.wrapper().display().to_string();
    for (wrapper, extra) in [
        ("", &[][..]),
        ("/nowhere/kache", &[]),
        ("kache", &[]),
        ("/usr/bin/env", &[]),
        // Outside Cargo's directories kache becomes the script.
        (&kache, &[("KACHE_CACHE_DIR", "/proc/nowhere")]),
        (&kache, &[("KACHE_DISABLED", "1"), ("HOME", "/nowhere")]),
        (&kache, &[("KACHE_MAX_SIZE", "nonsense"), ("HOME", "/nowhere")]),
        (&kache, &[("KACHE_MAX_SIZE", "nonsense"), ("HOME", "/nowhere"), ("KACHE_FALLBACK", "/bin/false")]),
    ] {
        assert_eq!(run(wrapper, &[], extra), (Some(0), said.clone(), String::new()), "{wrapper} {extra:?}");
    }
    // A kache that doesn't know of scripts is a wrapper. It is called once.
    let old = fake.display().to_string();
    assert_eq!(run(&old, &[], &[]), (Some(0), said, "called\n".to_owned()));
    assert_eq!(run(&old, &["a", "b"], &[]), (Some(7), "with [\"a\", \"b\"]\n".to_owned(), String::new()));
}

/// The `cc` crate calls kache in front of the C compiler: kache, its settings and its variables are no inputs.
#[test]
fn kache_itself_is_no_input() {
    let lab = lean_lab();
    let body = r#"let o = out.join("x"); let kache = env::var("RUSTC_WRAPPER").unwrap();
        assert!(Command::new(kache).args(["cc", "-o"]).arg(&o).arg("../x.c").status().unwrap().success());
        String::from_utf8(Command::new(o).output().unwrap().stdout).unwrap()"#;
    let p = world(&lab, "w", body);
    p.write("x.c", "#include <stdio.h>\nint main(void) { puts(\"one\"); return 0; }\n");
    p.cargo("build").ok().script("app", &["miss"]);
    p.write(".kache.toml", "[cache]\nlocal_max_size = \"20GiB\"\n");
    lab.set_env("KACHE_COMPRESSION_LEVEL", "5");
    p.wipe();
    p.cargo("build").ok().script("app", &["hit"]);
    p.write("x.c", "#include <stdio.h>\nint main(void) { puts(\"two\"); return 0; }\n");
    p.wipe();
    let run = p.cargo("run").ok();
    run.script("app", &["miss"]);
    assert!(run.stdout.starts_with("two"), "{run}");
}

#[test]
fn the_switch_has_scripts_run() {
    let lab = lean_lab();
    let p = world(&lab, "w", READ_DATA);
    p.cargo("run").same().script("app", &["miss"]);
    p.wipe();
    p.cargo("run").env("KACHE_BUILD_SCRIPTS", "0").ok().script("app", &[]).all_hit();
    p.wipe();
    p.cargo("run").same().script("app", &["hit"]);
    let shown = String::from_utf8(lab.cli(&["stats"]).stdout).expect("text");
    assert!(shown.contains("1 of 3 build scripts"), "{shown}");
}

/// Failures and warnings are the script's own.
#[test]
fn a_script_that_fails_fails() {
    let lab = lean_lab();
    let body = r#"println!("cargo:warning=careful"); eprintln!("why");
        fs::read_to_string("../data.txt").unwrap_or_else(|_| std::process::exit(3))"#;
    let p = world(&lab, "w", body);
    p.cargo("build").same_failure().script("app", &["error"]);
    p.write("data.txt", "x");
    p.cargo("build").same().script("app", &["miss"]);
    p.wipe();
    p.cargo("build").same().script("app", &["hit"]);
}

/// A Cargo that a script starts has scripts of its own.
#[test]
fn a_cargo_in_a_script_runs_its_scripts() {
    let lab = lean_lab();
    let inner = world(&lab, "inner", READ_DATA);
    inner.write("data.txt", "inner");
    inner.cargo("generate-lockfile --offline").plain().ok();
    let body = format!(
        r#"let s = Command::new(env::var("CARGO").unwrap()).args(["run", "-q", "--offline"]).current_dir({:?}).env("CARGO_TARGET_DIR", out.join("t")).output().unwrap();
           assert!(s.status.success(), "{{s:?}}"); String::from_utf8(s.stdout).unwrap().trim().into()"#,
        inner.dir()
    );
    let p = world(&lab, "w", &body);
    let run = p.cargo("run").same();
    assert!(run.stdout.starts_with("inner inner"), "{run}");
    p.wipe();
    p.cargo("run").same();
}
