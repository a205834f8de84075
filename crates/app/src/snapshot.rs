//! Expected texts of tests, kept as files in `tests/snapshots`. `BLESS=1 cargo test` writes what comes out now; the
//! change is then looked at like any other. Only compiled for tests.

use std::path::Path;

/// Compares a text with the file of that name.
pub fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("make the directory");
        std::fs::write(&path, text).expect("write the expected text");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected == text {
        return;
    }
    let line = expected.lines().zip(text.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or_else(|| expected.lines().count().min(text.lines().count()));
    let at = |text: &str| text.lines().nth(line).unwrap_or("(end)").to_owned();
    panic!(
        "{name} differs from line {} on:\n- {}\n+ {}\nIf that is right: BLESS=1 cargo test",
        line + 1,
        at(&expected),
        at(text)
    );
}
