//! Results that may depend on the path of their checkout: served elsewhere once a compile in an unlike place has shown that
//! they don't, and never where they do.

use std::fmt::Write as _;
use std::time::Duration;

use kache_store::Store;
use kache_store::lock::Locking;
use kache_testkit::{Project, Sandbox, wait_for};
use serde_json::Value;

use crate::fixtures::{macro_world, user_world};
use crate::support::{Lab, Outcomes, lab, lean_lab};

/// A world in which proofs are made.
fn proving(lab: Lab) -> Lab {
    lab.set_env("KACHE_PROVE", "1");
    lab
}

/// Does what is pending, and returns what that came to.
#[track_caller]
pub fn prove(sandbox: &Sandbox) -> String {
    let output = sandbox.cli(&["prove"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Builds, and has nobody work on proofs afterwards, as where a container ends with the build.
#[track_caller]
fn build_alone(p: &Project<'_>) {
    let store = Store::open(p.sandbox().cache_dir()).expect("a store");
    let lock = store.lock_proofs(Duration::ZERO).expect("a lock");
    assert!(matches!(lock, Locking::Locked(_)), "it is free");
    p.cargo("run").ok();
}

/// What `kache stats` counts: pending, made, failed.
fn counts(sandbox: &Sandbox) -> (u64, u64, u64) {
    let output = sandbox.cli(&["stats", "--json"]);
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let count = |name: &str| stats["store"]["proofs"][name].as_u64().expect("a number");
    (count("pending"), count("made"), count("failed"))
}

/// Waits until the background has done what is pending.
fn wait_until_proven(sandbox: &Sandbox) {
    wait_for("proofs in the background", || counts(sandbox).0 == 0);
}

/// The very first build of a second checkout is served, whether it lies beside the first one or elsewhere; the program has
/// the macro's result itself, and debug information and incremental state are as Cargo does it by itself.
#[test]
fn a_macro_that_reads_beside_its_manifest_is_served_the_first_time() {
    let lab = proving(lab());
    let one = macro_world(&lab, "wt/one", "mac::text!()");
    one.write("user/t.txt", "text");
    one.edit("app/Cargo.toml", "[dependencies]\n", "[dependencies]\nmac = { path = \"../mac\" }\n");
    one.write("app/t.txt", "own text");
    one.write("app/src/main.rs", "fn main() {\n    println!(\"{} {}\", user::value(), mac::text!());\n}\n");
    one.cargo("run").ok();
    wait_until_proven(&lab);
    assert_eq!(counts(&lab), (0, 2, 0));
    for name in ["wt/two", "elsewhere/in/third"] {
        let p = one.checkout(name);
        p.cargo("run").same().all_hit();
        p.nothing_to_do("build");
    }
    let four = one.checkout("four");
    four.write("user/t.txt", "other");
    four.cargo("run").same().not_hit("user").outcome("mac", "hit");
}

/// What macros make of a path, by the name of the crate that keeps it.
const FACTS: [&str; 6] = ["length", "hash", "depth", "parent", "letter", "nothing"];

/// A member for each of [`FACTS`] about each variable, and a program that prints them all.
fn facts_world<'s>(lab: &'s Lab, name: &str) -> Project<'s> {
    let p = lab.project(name, &[("app/Cargo.toml", ""), ("mac/src/lib.rs", FACTS_MACRO)]);
    let manifest = |name: &str, more: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{more}")
    };
    p.write("mac/Cargo.toml", manifest("mac", "[lib]\nproc-macro = true\n"));
    let (mut members, mut dependencies, mut main) = (String::new(), String::new(), String::new());
    for variable in ["manifest_dir", "out_dir"] {
        for fact in FACTS {
            let crate_name = format!("{variable}_{fact}");
            let asked = if variable == "out_dir" { "OUT_DIR" } else { "CARGO_MANIFEST_DIR" };
            p.write(
                &format!("{crate_name}/Cargo.toml"),
                manifest(&crate_name, "[dependencies]\nmac = { path = \"../mac\" }\n"),
            );
            p.write(&format!("{crate_name}/build.rs"), "fn main() {}\n");
            p.write(
                &format!("{crate_name}/src/lib.rs"),
                format!("pub fn value() -> &'static str {{\n    mac::fact!({asked} {fact})\n}}\n"),
            );
            let _ = write!(members, "\"{crate_name}\", ");
            let _ = writeln!(dependencies, "{crate_name} = {{ path = \"../{crate_name}\" }}");
            let _ = writeln!(main, "    println!(\"{crate_name} {{}}\", {crate_name}::value());");
        }
    }
    p.write("Cargo.toml", format!("[workspace]\nresolver = \"3\"\nmembers = [{members}\"mac\", \"app\"]\n"));
    p.write("app/Cargo.toml", manifest("app", &format!("[dependencies]\n{dependencies}")));
    p.write("app/src/main.rs", format!("fn main() {{\n{main}}}\n"));
    p
}

const FACTS_MACRO: &str = r#"use proc_macro::TokenStream;
use std::hash::{DefaultHasher, Hash, Hasher};

#[proc_macro]
pub fn fact(input: TokenStream) -> TokenStream {
    let words: Vec<String> = input.into_iter().map(|token| token.to_string()).collect();
    let path = std::path::PathBuf::from(std::env::var_os(&words[0]).expect("set"));
    let names: Vec<String> = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let fact = match words[1].as_str() {
        "length" => (path.as_os_str().len() % 7).to_string(),
        "depth" => (names.len() % 3).to_string(),
        "hash" => {
            let mut hasher = DefaultHasher::new();
            path.canonicalize().expect("there").hash(&mut hasher);
            hasher.finish().to_string()
        }
        // Of the workspace's directory: another one in each checkout.
        "parent" => names.iter().rev().find(|name| name.starts_with("ws-")).cloned().unwrap_or_default(),
        "letter" => names.iter().map(|name| name.chars().next().unwrap()).collect::<String>(),
        _ => path.is_dir().to_string(),
    };
    format!("{fact:?}").parse().unwrap()
}
"#;

/// The class: each of a path's properties, of either variable. Checkouts that are alike in one of them prove nothing to
/// each other, and what depends on any is compiled in each place.
#[test]
fn what_depends_on_its_place_is_never_served_elsewhere() {
    let lab = proving(lean_lab());
    let one = facts_world(&lab, "side/ws-one");
    build_alone(&one);
    let told = prove(&lab);
    let check = |p: &Project<'_>| {
        let run = p.cargo("run").same();
        for variable in ["manifest_dir", "out_dir"] {
            for fact in FACTS {
                let crate_name = format!("{variable}_{fact}");
                if fact == "nothing" {
                    assert!(told.contains(&format!("{crate_name}: the same everywhere")), "{told}");
                    run.outcome(&crate_name, "hit");
                } else {
                    assert!(told.contains(&format!("{crate_name}: depends on its place")), "{told}");
                    run.not_hit(&crate_name);
                }
            }
        }
        prove(&lab);
        p.nothing_to_do("build");
    };
    // Of the same length, depth and parent; of another length; of another depth; in another parent.
    for name in ["side/ws-two", "side/ws-three", "side/by/ws-six", "edis/ws-one"] {
        check(&one.checkout(name));
    }
    one.wipe();
    one.cargo("run").same().all_hit();
}

/// The same by the compiler itself, without a macro, in libraries and programs.
#[test]
fn constants_that_the_compiler_makes_of_a_path() {
    let lab = proving(lean_lab());
    let constant = "const N: usize = env!(\"OUT_DIR\").len();\n";
    let one = user_world(&lab, "one", &format!("{constant}pub fn value() -> usize {{ N }}\n"));
    for member in ["user", "app"] {
        one.write(&format!("{member}/build.rs"), "fn main() {}\n");
    }
    one.write(
        "app/src/main.rs",
        format!("{constant}const M: usize = env!(\"CARGO_MANIFEST_DIR\").len();\nfn main() {{\n    println!(\"{{N}} {{M}} {{}}\", user::value());\n}}\n"),
    );
    build_alone(&one);
    prove(&lab);
    for name in ["two", "a/third/one"] {
        let p = one.checkout(name);
        p.cargo("run").same().not_hit("user").not_hit("app");
    }
}

/// A dependency's macro makes something of a variable in the place of the program that calls it, whose own source does no
/// more with it than locate a file. Where the dependency doesn't either, there is nothing to prove.
#[test]
fn a_constant_made_by_the_macro_of_a_dependency() {
    let locates = "include!(concat!(env!(\"OUT_DIR\"), \"/n.rs\"))";
    for (body, is_free) in [("env!(\"OUT_DIR\").len()", false), (locates, true)] {
        let lab = proving(lean_lab());
        let macros = format!("#[macro_export]\nmacro_rules! number {{\n    () => {{ {body} }};\n}}\n");
        let one = user_world(&lab, "one", &macros);
        one.write(
            "app/src/main.rs",
            "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\nconst N: usize = user::number!();\n\
             fn main() {\n    println!(\"{} {N}\", generated());\n}\n",
        );
        one.write(
            "app/build.rs",
            "fn main() {\n    let out = std::path::PathBuf::from(std::env::var_os(\"OUT_DIR\").unwrap());\n    \
             std::fs::write(out.join(\"g.rs\"), \"pub fn generated() -> u32 { 1 }\").unwrap();\n    \
             std::fs::write(out.join(\"n.rs\"), \"7\").unwrap();\n}\n",
        );
        build_alone(&one);
        let two = one.checkout("another/place");
        if is_free {
            assert_eq!(counts(&lab), (0, 0, 0));
            two.cargo("run").same().outcome("app", "hit");
        } else {
            let told = prove(&lab);
            assert!(told.contains("app: depends on its place"), "{told}");
            two.cargo("run").same().not_hit("app");
        }
    }
}

/// The source does no more with the variable than locate a file; its macro keeps the length of the same path.
#[test]
fn a_macro_and_an_include_that_use_the_same_variable() {
    let lab = proving(lean_lab());
    let include = "include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/x.txt\"))";
    let one = macro_world(&lab, "one", &format!("[mac::path_length!(), {include}][0]"));
    one.write("user/x.txt", "");
    build_alone(&one);
    let told = prove(&lab);
    assert!(told.contains("user: depends on its place"), "{told}");
    one.checkout("another/place").cargo("run").same().not_hit("user");
}

/// A proof that is killed stays pending, says so, and is made later; what it left is removed.
#[cfg(debug_assertions)]
#[test]
fn a_proof_that_is_interrupted_is_made_later() {
    use kache_store::fault::Point;
    let lab = proving(lean_lab());
    let one = macro_world(&lab, "one", "mac::text!()");
    one.write("user/t.txt", "text");
    for point in [Point::ProofBegun, Point::ProofCompiling, Point::ProofPublished, Point::ProofCompared] {
        lab.clear_cache();
        one.wipe();
        let trap = lab.write("tmp/trap", "");
        let order = format!("{}:{}", point.name(), trap.display());
        one.cargo("run").env("KACHE_FAULT", order).ok();
        wait_for("the death of the background process", || !trap.exists());
        let told = lab.command(lab.wrapper()).args(["why-miss", "user"]).output().expect("kache runs");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains("proof pending"), "{point:?}: {told}");
        assert_eq!(counts(&lab).0, 1, "{point:?}");
        let left = scratch(&lab);
        assert!(prove(&lab).contains("user: the same everywhere"), "{point:?}");
        assert!(!left.exists(), "{point:?}: {} is still there", left.display());
        assert_eq!(counts(&lab), (0, 1, 0), "{point:?}");
        let three = one.checkout("three");
        three.cargo("run").same().all_hit();
        lab.remove(&three);
        lab.assert_doctor_is_content();
    }
}

/// The directory of the attempt at the only pending proof.
#[cfg(debug_assertions)]
fn scratch(lab: &Lab) -> std::path::PathBuf {
    let jobs = kache_testkit::walk(&lab.cache_dir().join("memo/unproven"));
    let job: Value = serde_json::from_slice(&std::fs::read(&jobs[0]).expect("a job")).expect("JSON");
    job["scratch"].as_str().expect("begun").into()
}

/// Without the background a proof waits for the next build, or for `kache prove`. Where the sources were edited meanwhile,
/// it is about nothing any more.
#[test]
fn a_proof_waits_for_the_next_build_and_ends_with_an_edit() {
    let lab = proving(lean_lab());
    let one = macro_world(&lab, "one", "mac::text!()");
    one.write("user/t.txt", "text");
    build_alone(&one);
    assert_eq!(counts(&lab), (1, 0, 0));
    one.wipe();
    one.cargo("run").ok().all_hit();
    wait_until_proven(&lab);
    assert_eq!(counts(&lab), (0, 1, 0));
    one.write("user/t.txt", "other");
    build_alone(&one);
    one.write("user/t.txt", "third");
    assert_eq!(prove(&lab), "No proof is pending.\n");
    assert_eq!(counts(&lab), (0, 1, 0));
    one.write("user/t.txt", "other");
    one.checkout("two").cargo("run").same().not_hit("user");
}

/// An input that is edited while the compile elsewhere runs: the result isn't that of the new content.
#[cfg(debug_assertions)]
#[test]
fn an_edit_during_the_proof_leads_to_no_older_result() {
    use kache_store::fault::Point;
    let lab = proving(lean_lab());
    let one = macro_world(&lab, "one", "mac::text!()");
    one.write("user/t.txt", "text");
    build_alone(&one);
    let trap = lab.write("tmp/trap", "stop");
    let mut command = lab.command(lab.wrapper());
    command.arg("prove").env("KACHE_FAULT", format!("{}:{}", Point::ProofCompiling.name(), trap.display()));
    let mut prover = command.spawn().expect("kache starts");
    wait_for("the proof", || !trap.exists());
    one.write("user/t.txt", "more");
    let pid = prover.id().to_string();
    assert!(std::process::Command::new("kill").args(["-CONT", &pid]).status().expect("kill").success());
    assert!(prover.wait().expect("an end").success());
    assert_eq!(counts(&lab), (0, 0, 0), "nothing is known");
    let two = one.checkout("deeper/down/two");
    two.cargo("run").same().not_hit("user");
}

#[test]
fn the_switch_is_off() {
    let lab = lean_lab();
    let one = macro_world(&lab, "one", "mac::text!()");
    one.write("user/t.txt", "text");
    one.cargo("run").env("KACHE_PROVE", "0").ok();
    assert_eq!(counts(&lab), (0, 0, 0));
    assert_eq!(prove(&lab), "No proof is pending.\n");
    one.checkout("two").cargo("run").same().not_hit("user");
}

/// A macro that fails in any other place: nothing is shown, and nothing shared.
#[test]
fn a_compile_that_fails_elsewhere_shows_nothing() {
    let lab = proving(lean_lab());
    let one = macro_world(&lab, "wt/one", "mac::only_there!()");
    let one_dir = one.dir().display().to_string();
    one.write(
        "mac/src/lib.rs",
        "#[proc_macro]\npub fn only_there(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    \
         assert!(std::env::var(\"CARGO_MANIFEST_DIR\").unwrap().contains(\"/wt/\"));\n    \
         \"\\\"value\\\"\".parse().unwrap()\n}\n",
    );
    build_alone(&one);
    let told = prove(&lab);
    assert!(told.contains("user: could not be shown") && !told.contains(&one_dir), "{told}");
    one.checkout("wt/two").cargo("run").same().not_hit("user");
    assert_eq!(prove(&lab), "No proof is pending.\n", "tried once");
}
