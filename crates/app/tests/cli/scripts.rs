//! Blocks of commands in README and guide, run as they stand there in a new home: where they build, they build, and what they
//! write is written. Those of [`ELSEWHERE`] are run by other tests.

use std::process::Command;

use crate::ci::{read, root, text};
use crate::jobs::Machine;

/// What other tests run, or what nothing can run here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo install", "needs a registry, or builds all of kache"),
    ("cargo test --workspace", "this is one of these tests"),
    ("sh install.sh", "cli::ci"),
    ("docker run", "needs Docker and an image"),
    ("kache serve", "e2e::guide"),
    ("--purge-sccache", "stops the server of whoever runs this; cli::docs"),
];

/// Blocks of shell commands in a document.
fn blocks(document: &str) -> Vec<String> {
    let parts = document.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    parts.map(|(block, _)| block.to_owned()).collect()
}

/// The block with answers to what is asked, and with an end to what has none.
fn answered(block: &str) -> String {
    let line = |line: &str| {
        let bare = line.split('#').next().unwrap_or_default().trim();
        match bare {
            "kache init" => "kache init -y --no-service".to_owned(),
            "kache daemon log -f" => "kache daemon log".to_owned(),
            "kache daemon install" => "kache daemon install --help".to_owned(),
            _ if bare.starts_with("kache doctor") => format!("{bare} || [ $? = 3 ]"),
            _ => bare.to_owned(),
        }
    };
    block.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A machine whose project is a Git repository that was built once, with a folder as remote.
fn machine() -> Machine {
    let mut machine = Machine::new(&[]);
    let remote = machine.path("remote");
    for dir in ["remote", "src/old-worktrees"] {
        std::fs::create_dir_all(machine.path(dir)).expect("directory");
    }
    std::os::unix::fs::symlink(machine.path("work"), machine.path("my-project")).expect("link");
    machine.env.push(("KACHE_REMOTE_PATH".into(), remote.display().to_string()));
    machine.env.push(("RUSTC_WRAPPER".into(), "kache".into()));
    machine.env.push(("GIT_CONFIG_GLOBAL".into(), "/dev/null".into()));
    let commit = "git init -q && git add . && git -c user.name=me -c user.email=me@example.com commit -qm x";
    machine.run(&format!("echo target > .gitignore && {commit} && cargo build"), &[]);
    machine
}

#[test]
fn blocks_of_commands_run_in_a_new_home() {
    let mut pages: Vec<String> = std::fs::read_dir(root().join("docs/guide"))
        .expect("guide")
        .flatten()
        .map(|item| format!("docs/guide/{}", item.file_name().to_string_lossy()))
        // `jobs` and `e2e::guide` run these.
        .filter(|page| !page.ends_with("ci.md") && !page.contains("/remote-"))
        .chain(["README.md".to_owned()])
        .collect();
    pages.sort();
    let mut ran = 0;
    for page in pages {
        let machine = machine();
        for block in blocks(&read(&page)) {
            if ELSEWHERE.iter().any(|(part, _)| block.contains(part)) {
                continue;
            }
            let begin = if block.starts_with("cd ") { "cd ..\n" } else { "" };
            let said = machine.run(&format!("{begin}{}", answered(&block)), &[]);
            assert!(!said.contains("panicked"), "{page}: {block}{said}");
            ran += 1;
            if block.contains("stats --last-build") {
                assert!(said.contains("Served 2 of 2 compiles"), "{page}: {said}");
            }
        }
        machine.run("kache daemon stop", &[]);
    }
    assert!(ran >= 14, "only {ran} blocks were run");
}

#[test]
fn completions_work_in_a_new_home() {
    let machine = Machine::new(&[]);
    let guide = read("docs/guide/install.md");
    let block = blocks(&guide).into_iter().find(|block| block.contains("completions bash")).expect("a block");
    let file = "~/.local/share/bash-completion/completions/kache";
    let said = machine.run(&format!("{block}\n. {file}\ncomplete -p kache"), &[]);
    assert!(said.contains("kache"), "{said}");
    // What a shell asks for when somebody types `kache why-`.
    let asks = format!(
        ". {file}; COMP_WORDS=(kache why-); COMP_CWORD=1; COMP_TYPE=9; COMP_LINE='kache why-'; COMP_POINT=10"
    );
    let function = "f=$(complete -p kache | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $f kache why- kache; echo \"${COMPREPLY[@]}\"";
    let said = machine.run(&format!("{asks}; {function}"), &[]);
    assert!(said.contains("why-miss"), "{said}");
}

/// The picture in the README is made by a script, which still makes one, and shows what the README says.
#[test]
fn the_picture_is_a_recorded_session() {
    let machine = Machine::new(&[]);
    let mut record = Command::new("python3");
    record.arg(root().join("bench/session")).arg("--source").arg(machine.path("work"));
    record.args(["--kache", env!("CARGO_BIN_EXE_kache"), "--output"]).arg(machine.path("session.svg"));
    record.env_remove("RUSTC_WRAPPER");
    match record.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) if text(&output.stderr).contains("tomllib") => {
            return eprintln!("skipped, needs Python 3.11");
        }
        other => panic!("{other:?}"),
    }
    let recorded = machine.home.read("session.svg");
    assert!(recorded.contains(">Served 2 of 2 compiles"), "{recorded}");
    let shown = read("docs/session.svg");
    for part in
        ["RUSTC_WRAPPER=kache cargo build", "Finished `dev` profile", ">Served ", "kache stats --last-build"]
    {
        assert!(shown.contains(part), "{part}");
    }
    assert!(read("README.md").contains("](docs/session.svg)"));
    assert!(!shown.contains("/tmp"), "no paths of a machine");
}
