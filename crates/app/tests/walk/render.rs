//! The text of a workspace's files in a given state. Every variant of every slot shows in what the programs print.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::model::{FAILS, File, Home, Kind, Package, Part, Product, Slot, State, WARNS, Watch, Workspace};

/// Files of the worktree, and of the packages beside it, by their paths relative to the worktree.
pub fn files(workspace: &Workspace, state: &State) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let members = workspace.packages.iter().filter(|package| package.home == Home::Member);
    let members: Vec<String> = members.map(|package| format!("{:?}", package.name)).collect();
    let profiles = "[profile.dev]\ndebug = 0\n[profile.release]\nopt-level = 1\ncodegen-units = 1\n";
    let root = format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\n{profiles}", members.join(", "));
    files.insert("Cargo.toml".to_owned(), root);
    for index in (0..workspace.packages.len()).filter(|index| !workspace.is_fetched(*index)) {
        package_files(workspace, index, state, &mut files);
    }
    files
}

/// Files of the repository that Cargo fetches from.
pub fn upstream(workspace: &Workspace, state: &State) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let fetched = (0..workspace.packages.len()).filter(|index| workspace.is_fetched(*index));
    let names: Vec<String> = fetched.clone().map(|i| format!("{:?}", workspace.packages[i].name)).collect();
    let root = format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\n", names.join(", "));
    files.insert("Cargo.toml".to_owned(), root);
    fetched.for_each(|index| package_files(workspace, index, state, &mut files));
    files
}

fn package_files(workspace: &Workspace, index: usize, state: &State, files: &mut BTreeMap<String, String>) {
    let package = &workspace.packages[index];
    let dir = dir_of(package);
    let mut put = |file: &str, text: String| files.insert(format!("{dir}/{file}"), text);
    put("Cargo.toml", manifest(workspace, index, state));
    for file in package.files() {
        let text = match file {
            File::Manifest => continue,
            File::Source => source(workspace, index, state),
            File::Script => script(workspace, index, state),
            file => content(package, Slot { package: index, file }, state),
        };
        put(package.path_of(file), text);
    }
    if package.kind == Kind::Program {
        let prints = "{\n    println!(\"{}\", value::value());\n}\n";
        let shared = "#[path = \"../src/value.rs\"]\nmod value;\n";
        put("src/value.rs", format!("pub fn value() -> String {{\n{}}}\n", body(workspace, index, state)));
        put("tests/it.rs", format!("{shared}#[test]\nfn it() {prints}"));
        put(&format!("examples/ex_{}.rs", package.name), format!("{shared}fn main() {prints}"));
    }
}

/// A package's directory relative to the worktree, or to the repository that it is fetched from.
pub fn dir_of(package: &Package) -> String {
    match package.home {
        Home::Member | Home::Upstream => package.name.clone(),
        Home::Outside => format!("../{}", package.name),
    }
}

fn manifest(workspace: &Workspace, index: usize, state: &State) -> String {
    let package = &workspace.packages[index];
    let mut text = format!("[package]\nname = {:?}\nversion = \"0.1.0\"\nedition = \"2024\"\n", package.name);
    if package.script.is_some_and(|script| script.product == Product::Metadata) {
        let _ = writeln!(text, "links = {:?}", package.name);
    }
    let tag = workspace.tag(state);
    let path_to = |dep: &Package| {
        if package.home != Home::Upstream && dep.home == Home::Upstream {
            return format!("{} = {{ git = {:?}, tag = {tag:?}", dep.name, workspace.upstream);
        }
        let up = if (package.home, dep.home) == (Home::Member, Home::Outside) { "../.." } else { ".." };
        format!("{} = {{ path = \"{up}/{}\"", dep.name, dep.name)
    };
    if let Some(used) = package.script.and_then(|script| script.uses) {
        let _ = writeln!(text, "[build-dependencies]\n{} }}", path_to(&workspace.packages[used]));
    }
    text.push_str("[dependencies]\n");
    let extra = state.variant(Slot { package: index, file: File::Manifest }) == 1;
    for dep in package.deps.iter().map(|dep| &workspace.packages[*dep]) {
        let wanted = extra && dep.has(Part::Feature);
        let features = if wanted { ", features = [\"extra\"]" } else { "" };
        let _ = writeln!(text, "{}{features} }}", path_to(dep));
    }
    match package.kind {
        Kind::Library => text.push_str("[lib]\ntest = false\ndoctest = false\n"),
        Kind::Macros => text.push_str("[lib]\nproc-macro = true\ntest = false\ndoctest = false\n"),
        Kind::Program => {
            let _ =
                write!(text, "[[bin]]\nname = {:?}\npath = \"src/main.rs\"\ntest = false\n", package.name);
        }
    }
    if package.has(Part::Feature) {
        text.push_str("[features]\nextra = []\n");
    }
    text
}

fn source(workspace: &Workspace, index: usize, state: &State) -> String {
    let package = &workspace.packages[index];
    let variant = state.variant(Slot { package: index, file: File::Source });
    let mut text = match package.kind {
        Kind::Macros => {
            let dep = package.deps.first().map(|dep| &workspace.packages[*dep].name);
            let above = dep.map_or("String::new()".to_owned(), |name| format!("{name}::value()"));
            macros(variant, &above)
        }
        Kind::Library => {
            let module = if package.has(Part::Module) { "mod m;\n" } else { "" };
            let generic = format!(
                "pub fn made<T: std::fmt::Debug>(t: T) -> String {{\n    format!(\"g{variant}{{t:?}}\")\n}}\n"
            );
            let generic = if package.has(Part::Generic) { generic } else { String::new() };
            format!("{module}{generic}pub fn value() -> String {{\n{}}}\n", body(workspace, index, state))
        }
        Kind::Program => {
            format!("mod value;\nfn main() {{\n    println!(\"v{variant} {{}}\", value::value());\n}}\n")
        }
    };
    match variant {
        WARNS => text.push_str("fn nobody_calls_this() {}\n"),
        FAILS => text.push_str("pub fn wrong() -> u32 {\n    \"no number\"\n}\n"),
        _ => {}
    }
    text
}

fn body(workspace: &Workspace, index: usize, state: &State) -> String {
    let package = &workspace.packages[index];
    let variant = state.variant(Slot { package: index, file: File::Source });
    // A program's own number is in its main file, which test and example don't share.
    let own = if package.kind == Kind::Program { String::new() } else { variant.to_string() };
    let mut text = format!("    let mut all = vec![String::from(\"{}:{own}\")];\n", package.name);
    let mut push = |expression: &str| {
        let _ = writeln!(text, "    all.push({expression}.to_string());");
    };
    for part in &package.parts {
        match part {
            Part::Module => push("m::VALUE"),
            Part::Included => push("include_str!(\"data.txt\").trim()"),
            Part::Variable => push("option_env!(\"WALK_ENV\").unwrap_or(\"unset\")"),
            Part::Location => push("format!(\"{} {}\", env!(\"CARGO_MANIFEST_DIR\"), file!())"),
            Part::Feature => push("cfg!(feature = \"extra\")"),
            Part::Generic => push("made(1u8)"),
            Part::HiddenFile => push("mac::hidden_file!()"),
            Part::HiddenVariable => push("mac::hidden_variable!()"),
        }
    }
    if let Some(script) = package.script {
        push("include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"))");
        if script.product == Product::Native {
            let name = &package.name;
            push(&format!("{{ unsafe extern \"C\" {{ safe fn foo_{name}() -> i32; }} foo_{name}() }}"));
        }
    }
    for dep in package.deps.iter().map(|dep| &workspace.packages[*dep]) {
        match dep.kind {
            Kind::Macros => push("mac::own!()"),
            _ => push(&format!("{}::value()", dep.name)),
        }
        if dep.has(Part::Generic) {
            push(&format!("{}::made({:?})", dep.name, package.name));
        }
    }
    text.push_str(
        "    all.push(cfg!(debug_assertions).to_string());\n    format!(\"[{}]\", all.join(\" \"))\n",
    );
    text
}

fn macros(variant: u8, above: &str) -> String {
    format!(
        r#"use proc_macro::TokenStream;
fn literal(text: &str) -> TokenStream {{
    format!("{{text:?}}").parse().unwrap()
}}
#[proc_macro]
pub fn own(_: TokenStream) -> TokenStream {{
    literal(&format!("m{variant}{{}}", {above}))
}}
#[proc_macro]
pub fn hidden_file(_: TokenStream) -> TokenStream {{
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    literal(std::fs::read_to_string(format!("{{dir}}/hidden.txt")).unwrap().trim())
}}
#[proc_macro]
pub fn hidden_variable(_: TokenStream) -> TokenStream {{
    literal(&format!("{{:?}}", std::env::var("WALK_HIDDEN").ok()))
}}
"#
    )
}

fn content(package: &Package, slot: Slot, state: &State) -> String {
    let variant = state.variant(slot);
    match slot.file {
        File::Module => format!("pub const VALUE: &str = \"m{variant}\";\n"),
        File::ScriptInput if package.path_of(slot.file) == "foo.c" => {
            format!("int foo_{}(void) {{ return {variant}; }}\n", package.name)
        }
        _ => format!("t{variant}\n"),
    }
}

fn script(workspace: &Workspace, index: usize, state: &State) -> String {
    let package = &workspace.packages[index];
    let Some(script) = package.script else { return String::new() };
    let variant = state.variant(Slot { package: index, file: File::Script });
    let input = package.path_of(File::ScriptInput);
    let watched = match script.watch {
        Watch::Files => format!("cargo::rerun-if-changed=build.rs\\ncargo::rerun-if-changed={input}"),
        Watch::Itself => "cargo:rerun-if-changed=build.rs".to_owned(),
        Watch::Variable => "cargo:rerun-if-env-changed=WALK_SCRIPT".to_owned(),
        Watch::Package => String::new(),
    };
    let read = match script.watch {
        Watch::Variable => "format!(\"{:?}\", env::var(\"WALK_SCRIPT\").ok())".to_owned(),
        _ => format!("std::fs::read_to_string(\"{input}\").unwrap().trim().to_owned()"),
    };
    let used = script.uses.map(|used| format!("{}::value()", workspace.packages[used].name));
    let used = used.unwrap_or_else(|| "\"\"".to_owned());
    let product = match script.product {
        Product::Nothing => String::new(),
        Product::Metadata => "println!(\"cargo:value={value}\");".to_owned(),
        Product::Native => native(&package.name, script.watch),
    };
    format!(
        r#"use std::env;
fn main() {{
    let out = env::var("OUT_DIR").unwrap();
    println!("{watched}");
    let mut value = format!("s{variant}{{}}{{}}", {read}, {used});
    let is_given = |name: &str| name.starts_with("DEP_") && name.ends_with("_VALUE");
    let given = env::vars().filter(|(name, _)| is_given(name));
    let mut given: Vec<String> = given.map(|(name, value)| format!(" {{name}}={{value}}")).collect();
    given.sort();
    value.push_str(&given.concat());
    std::fs::write(format!("{{out}}/g.rs"), format!("{{value:?}}\n")).unwrap();
    {product}
}}
"#
    )
}

/// The end of a script that makes a static library of `foo.c`, or of a generated file where it reads none.
fn native(name: &str, watch: Watch) -> String {
    let source = match watch {
        Watch::Variable => format!(
            r#"let source = format!("{{out}}/foo.c");
    let code = format!("int foo_{name}(void) {{{{ return {{}}; }}}}\n", value.len());
    std::fs::write(&source, code).unwrap();"#
        ),
        _ => "let source = \"foo.c\".to_owned();".to_owned(),
    };
    format!(
        r#"{source}
    let run = |program: &str, args: &[&str]| {{
        assert!(std::process::Command::new(program).args(args).status().unwrap().success());
    }};
    let (object, archive) = (format!("{{out}}/foo.o"), format!("{{out}}/libfoo_{name}.a"));
    run("cc", &["-c", "-fPIC", &source, "-o", &object]);
    let _ = std::fs::remove_file(&archive);
    run("ar", &["rcs", &archive, &object]);
    println!("cargo:rustc-link-search=native={{out}}\ncargo:rustc-link-lib=static=foo_{name}");"#
    )
}
