//! What the documents say about the command line holds: every command in them is understood.

use std::path::Path;

use crate::Home;

#[test]
fn every_command_in_the_documents_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("root");
    let guide = std::fs::read_dir(root.join("docs/guide")).expect("guide").flatten().map(|item| item.path());
    let home = Home::new();
    let mut understood = 0;
    for file in guide.chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&file).expect("document");
        for line in commands(&text) {
            // `--help` has clap stop after it has understood everything before it.
            let mut args: Vec<&str> = line.split_whitespace().skip(1).collect();
            args.push("--help");
            let ran = home.kache(&args);
            assert_eq!(ran.code, 0, "{}: {line}: {}", file.display(), ran.err);
            understood += 1;
        }
    }
    assert!(understood > 20, "only {understood} commands were found");
}

/// Calls of kache in code blocks and in code spans, without placeholders and what the shell makes of the rest.
fn commands(text: &str) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let lines = text.lines();
    let calls = spans.chain(lines).filter(|call| call.starts_with("kache ") && !call.contains('\n'));
    let plain =
        calls.map(|call| call.split(['|', '>', '#', '&', '(']).next().unwrap_or_default().trim().to_owned());
    plain.filter(|call| !call.contains(['[', '`', ':']) && !has_placeholder(call) && is_call(call)).collect()
}

/// Prose may begin with the name too: a call's second word is in lower case and its words have no punctuation.
fn is_call(text: &str) -> bool {
    let known = ["init", "doctor", "stats", "list", "gc", "purge", "completions", "daemon"];
    text.split_whitespace().nth(1).is_some_and(|word| known.contains(&word))
}

fn has_placeholder(text: &str) -> bool {
    let is_placeholder = |word: &str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
    text.split_whitespace().any(is_placeholder)
}
