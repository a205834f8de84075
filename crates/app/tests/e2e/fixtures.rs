//! Small projects that several tests start from, as tables of files. Doesn't build anything.

use kache_testkit::{Project, Sandbox};

/// `dep` (library) and `app` (prints `dep::value()`).
pub const PAIR: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"dep\", \"app\"]\n"),
    ("dep/Cargo.toml", "[package]\nname = \"dep\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
    ("dep/src/lib.rs", "pub fn value() -> i64 {\n    1\n}\n"),
    (
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\ndep = { path = \"../dep\" }\n",
    ),
    ("app/src/main.rs", "fn main() {\n    println!(\"{}\", dep::value());\n}\n"),
];

/// One of everything: a library with a build script that generates code, a proc macro, a library that uses both,
/// a program with an integration test.
pub const ALL_KINDS: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"gen\", \"mac\", \"mid\", \"app\"]\n"),
    ("gen/Cargo.toml", "[package]\nname = \"gen\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
    (
        "gen/build.rs",
        r#"fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=number.txt");
    let number = std::fs::read_to_string("number.txt").unwrap();
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    std::fs::write(out.join("g.rs"), format!("pub const NUMBER: u32 = {};\n", number.trim())).unwrap();
}
"#,
    ),
    ("gen/number.txt", "7\n"),
    ("gen/src/lib.rs", "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\n"),
    (
        "mac/Cargo.toml",
        "[package]\nname = \"mac\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
    ),
    (
        "mac/src/lib.rs",
        r#"use proc_macro::TokenStream;
#[proc_macro]
pub fn twice(input: TokenStream) -> TokenStream {
    format!("2 * ({input})").parse().unwrap()
}
"#,
    ),
    (
        "mid/Cargo.toml",
        "[package]\nname = \"mid\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [dependencies]\ngen = { path = \"../gen\" }\nmac = { path = \"../mac\" }\n",
    ),
    ("mid/src/lib.rs", "pub fn value() -> u32 {\n    mac::twice!(gen::NUMBER)\n}\n"),
    (
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nmid = { path = \"../mid\" }\n",
    ),
    ("app/src/main.rs", "fn main() {\n    println!(\"{}\", mid::value());\n}\n"),
    ("app/tests/it.rs", "#[test]\nfn it() {\n    assert_eq!(mid::value() % 2, 0);\n}\n"),
];

/// Source of [`macro_world`]'s macros: each expands to a string literal made of something rustc never reports.
const MACROS: &str = r#"use proc_macro::TokenStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn here(name: &str) -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join(name)
}

fn literal(text: impl AsRef<str>) -> TokenStream {
    format!("{:?}", text.as_ref()).parse().unwrap()
}

fn list(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), found);
        }
    }
    found.sort();
}

/// Names below `assets`.
#[proc_macro]
pub fn names(_: TokenStream) -> TokenStream {
    let mut found = Vec::new();
    list(&here("assets"), &mut found);
    literal(found.join(","))
}

/// Content of `t.txt`.
#[proc_macro]
pub fn text(_: TokenStream) -> TokenStream {
    literal(fs::read_to_string(here("t.txt")).unwrap_or_else(|_| "none".into()))
}

/// Content of `t.txt` of the workspace root, by a path relative to the working directory.
#[proc_macro]
pub fn relative(_: TokenStream) -> TokenStream {
    literal(fs::read_to_string("t.txt").unwrap_or_else(|_| "none".into()))
}

/// Content of `t.txt` as a child process sees it.
#[proc_macro]
pub fn child(_: TokenStream) -> TokenStream {
    let output = Command::new("cat").arg(here("t.txt")).output().unwrap();
    literal(String::from_utf8(output.stdout).unwrap())
}

/// Length of `t.txt`, without opening it.
#[proc_macro]
pub fn size(_: TokenStream) -> TokenStream {
    literal(format!("{:?}", fs::metadata(here("t.txt")).map(|data| data.len()).ok()))
}

/// Whether `flag` exists.
#[proc_macro]
pub fn exists(_: TokenStream) -> TokenStream {
    literal(here("flag").exists().to_string())
}


/// Where the symbolic link `link` leads.
#[proc_macro]
pub fn link(_: TokenStream) -> TokenStream {
    literal(format!("{:?}", fs::read_link(here("link")).ok()))
}

/// Variable `MODE`, bytes and all.
#[proc_macro]
pub fn mode(_: TokenStream) -> TokenStream {
    literal(format!("{:?}", env::var_os("MODE")))
}

/// Length of the variable that the caller names.
#[proc_macro]
pub fn length_of(input: TokenStream) -> TokenStream {
    literal(format!("{:?}", env::var(input.to_string()).map(|value| value.len()).ok()))
}

/// The variable named by the caller.
#[proc_macro]
pub fn var(input: TokenStream) -> TokenStream {
    literal(format!("{:?}", env::var(input.to_string())))
}

/// Length of the package's path.
#[proc_macro]
pub fn path_length(_: TokenStream) -> TokenStream {
    literal(here("").to_str().unwrap().len().to_string())
}

/// First letter of the workspace directory's name.
#[proc_macro]
pub fn path_name(_: TokenStream) -> TokenStream {
    let package = here("");
    let workspace = package.components().rev().nth(1).unwrap().as_os_str().to_str().unwrap().to_owned();
    literal(workspace[..1].to_owned())
}

/// Evaluates `env!("X")` by itself, as macro-string does.
#[proc_macro]
pub fn evaluate(input: TokenStream) -> TokenStream {
    let text = input.to_string();
    let name = text.split('"').nth(1).unwrap();
    literal(env::var(name).unwrap_or_else(|_| "none".into()))
}

/// Makes the compiler read a file whose name is in `which.txt`.
#[proc_macro]
pub fn indirect(_: TokenStream) -> TokenStream {
    let name = fs::read_to_string(here("which.txt")).unwrap();
    format!("include_str!({:?})", here(name.trim())).parse().unwrap()
}


/// Leaves a file behind.
#[proc_macro]
pub fn leave(_: TokenStream) -> TokenStream {
    fs::write(here("left.txt"), "left").unwrap();
    literal("left")
}

/// Prints to standard output.
#[proc_macro]
pub fn chatter(_: TokenStream) -> TokenStream {
    println!("said by a macro");
    literal("chatter")
}

/// Something else every time.
#[proc_macro]
pub fn random(_: TokenStream) -> TokenStream {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    literal(now.as_nanos().to_string())
}

/// Waits while `gate` exists, and says so in `reached` as long as it does.
#[proc_macro]
pub fn gate(_: TokenStream) -> TokenStream {
    while here("gate").exists() {
        fs::write(here("reached"), "").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let _ = fs::remove_file(here("reached"));
    literal("passed")
}
"#;

/// `mac` (a collection of macros with hidden inputs), `user` (library whose `value()` is `expression`) and `app`
/// (prints it).
pub fn macro_world<'s>(sandbox: &'s Sandbox, name: &str, expression: &str) -> Project<'s> {
    let value = format!("pub fn value() -> &'static str {{\n    {expression}\n}}\n");
    sandbox.project(
        name,
        &[
            ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"mac\", \"user\", \"app\"]\n"),
            (
                "mac/Cargo.toml",
                "[package]\nname = \"mac\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
            ),
            ("mac/src/lib.rs", MACROS),
            (
                "user/Cargo.toml",
                "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                 [dependencies]\nmac = { path = \"../mac\" }\n",
            ),
            ("user/src/lib.rs", &value),
            (
                "app/Cargo.toml",
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                 [dependencies]\nuser = { path = \"../user\" }\n",
            ),
            ("app/src/main.rs", "fn main() {\n    println!(\"{}\", user::value());\n}\n"),
        ],
    )
}

/// A workspace with library `user` made of `lib` and program `app` that prints `user::value()` with `{:?}`.
pub fn user_world<'s>(sandbox: &'s Sandbox, name: &str, lib: &str) -> Project<'s> {
    sandbox.project(
        name,
        &[
            ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"user\", \"app\"]\n"),
            ("user/Cargo.toml", "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
            ("user/src/lib.rs", lib),
            (
                "app/Cargo.toml",
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                 [dependencies]\nuser = { path = \"../user\" }\n",
            ),
            ("app/src/main.rs", "fn main() {\n    println!(\"{:?}\", user::value());\n}\n"),
        ],
    )
}

/// Build script that compiles `foo.c` (or `$FOO_C`) to `libfoo.a` in `OUT_DIR`; `{directives}` is printed after.
pub fn c_build_script(directives: &str) -> String {
    format!(
        r#"use std::process::Command;
fn main() {{
    let out = std::env::var("OUT_DIR").unwrap();
    println!("cargo:rerun-if-changed=foo.c");
    println!("cargo:rerun-if-changed=build.rs");
    assert!(Command::new("cc").args(["-c", "-fPIC", "foo.c", "-o", &format!("{{out}}/foo.o")]).status().unwrap().success());
    let _ = std::fs::remove_file(format!("{{out}}/libfoo.a"));
    assert!(Command::new("ar").args(["rcs", &format!("{{out}}/libfoo.a"), &format!("{{out}}/foo.o")]).status().unwrap().success());
    println!("cargo:rustc-link-search=native={{out}}");
    {directives}
}}
"#
    )
}
