//! Seeding, and what a build script looks at without a word to Cargo: files and programs that its own program names.

use std::fs;
use std::path::Path;

use kache_testkit::Project;

use crate::seeding::{LIB, SCRIPT, assert_fresh, assert_idle, built, left_out, reading, recorded, seeded};
use crate::support::{Lab, lean_lab};

/// A second checkout says `says`, as a clean build does; the script was run for it or not.
fn assert_says(lab: &Lab, one: &Project<'_>, says: &str, is_seeded: bool) {
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    assert!(run.stdout.contains(says), "{run}");
    if is_seeded {
        assert_eq!(seeded(&run), (4, 1), "{run}");
        assert_fresh(&run);
    } else {
        assert_eq!(left_out(&run, "input-changed"), 1, "{run}");
    }
    assert_idle(&two.cargo("run"));
    lab.remove(&two);
}

/// The path's text has other texts behind it in the program: `{path}` and `none`.
fn reads(path: &Path) -> String {
    reading(&format!(
        "std::fs::read_to_string({:?}).unwrap_or_else(|_| \"none\".into())",
        path.to_str().expect("UTF-8")
    ))
}

#[test]
fn a_file_that_the_script_names_changes_comes_and_goes() {
    let lab = lean_lab();
    let file = lab.write("system/etc/release", "former");
    let (_, one) = built(&lab, &reads(&file), LIB, "run");
    assert_says(&lab, &one, "former", true);
    lab.write("system/etc/beside", "it");
    assert_says(&lab, &one, "former", true);
    fs::write(&file, "latter!").expect("write");
    assert_says(&lab, &one, "latter!", false);
    fs::remove_dir_all(file.parent().expect("a folder")).expect("remove");
    assert_says(&lab, &one, "none", false);
    // Recorded without it: now the file that comes is news.
    one.wipe();
    recorded(&one.cargo("run"));
    assert_says(&lab, &one, "none", true);
    lab.write("system/etc/release", "back");
    assert_says(&lab, &one, "back", false);
}

#[test]
fn a_program_that_the_script_names_by_its_path_changes() {
    let lab = lean_lab();
    let tool = |says: &str| lab.write_program("programs/teller", format!("#!/bin/sh\necho {says}\n"));
    let path = tool("former");
    let read = format!(
        "String::from_utf8(std::process::Command::new({:?}).output().unwrap().stdout).unwrap()",
        path.to_str().expect("UTF-8")
    );
    let (_, one) = built(&lab, &reading(&read), LIB, "run");
    assert_says(&lab, &one, "former", true);
    tool("latter");
    assert_says(&lab, &one, "latter", false);
}

/// A file that was changed between the script's run and the recording isn't what the script saw.
#[test]
fn a_file_that_the_script_names_changes_before_the_recorder_looks() {
    let lab = lean_lab();
    let file = lab.write("system/etc/release", "former");
    // The script itself does what somebody else would do meanwhile.
    let script = format!(
        "{}    std::fs::write({:?}, \"latter!\").unwrap();\n",
        reads(&file),
        file.to_str().expect("UTF-8")
    );
    let (_, one) = built(&lab, &script, LIB, "run");
    let two = one.checkout("two");
    let run = two.cargo("run").ok();
    assert!(run.stdout.contains("latter!"), "the script has run: {run}");
    assert_eq!(left_out(&run, "unobserved"), 1, "{run}");
}

/// The kernel's files have no size and their time means nothing: those that stay the same don't keep a script away.
#[test]
fn files_of_the_kernel() {
    let lab = lean_lab();
    let script = format!(
        "{SCRIPT}    let seen = [\"/proc/cpuinfo\", \"/proc/version\"].map(|path| std::fs::read(path).unwrap());\n    \
         assert!(seen.iter().all(|bytes| !bytes.is_empty()) && std::path::Path::new(\"/dev/null\").exists());\n"
    );
    let (_, one) = built(&lab, &script, LIB, "run");
    assert_says(&lab, &one, "plain", true);
}
