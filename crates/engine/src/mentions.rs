//! Whether a binary file that names a local directory does so only where it can't matter: in sections that no
//! program loads and only debuggers read. Knows ELF objects and archives of them; everything else matters.

use kache_core::scan::Scanner;
use object::read::archive::ArchiveFile;

use crate::elf::debug_ranges;

/// Whether every mention in `bytes` lies in debug sections of ELF objects, by themselves or in an archive.
pub fn only_in_debug_sections(bytes: &[u8], scanner: &Scanner) -> bool {
    if scanner.mentions(bytes).is_empty() {
        return true;
    }
    if bytes.starts_with(b"\x7fELF") {
        return is_harmless_elf(bytes, scanner);
    }
    let Ok(archive) = ArchiveFile::parse(bytes) else { return false };
    if archive.is_thin() {
        return false;
    }
    archive.members().all(|member| {
        let Ok(member) = member else { return false };
        let Ok(data) = member.data(bytes) else { return false };
        scanner.mentions(member.name()).is_empty()
            && (scanner.mentions(data).is_empty()
                || (data.starts_with(b"\x7fELF") && is_harmless_elf(data, scanner)))
    })
}

fn is_harmless_elf(bytes: &[u8], scanner: &Scanner) -> bool {
    let Some(ranges) = debug_ranges(bytes) else { return false };
    let mut rest = bytes.to_vec();
    for range in ranges {
        let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        if let Some(part) = range.and_then(|(start, end)| rest.get_mut(start..end)) {
            part.fill(0);
        }
    }
    scanner.mentions(&rest).is_empty()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use kache_core::paths::{Root, Roots};

    use super::*;

    const DIR: &str = "/some/where/quite/long/target";

    fn scanner() -> Scanner {
        Scanner::new(&Roots::new([(Root::Target, DIR.to_owned())]), &[])
    }

    /// What the C compiler makes of `source`, alone and in an archive.
    fn compiled(source: &str) -> [Vec<u8>; 2] {
        let dir = tempfile::tempdir().expect("temp dir");
        let run = |program: &str, args: &[&str]| {
            let status = Command::new(program).args(args).current_dir(dir.path()).status();
            assert!(status.expect("a C compiler").success(), "{program} {args:?}");
        };
        std::fs::write(dir.path().join("a.c"), source).expect("write");
        let map = format!("-fdebug-prefix-map={}={DIR}", dir.path().display());
        run("cc", &["-g", "-c", &map, "a.c", "-o", "a.o"]);
        run("ar", &["crs", "liba.a", "a.o"]);
        ["a.o", "liba.a"].map(|name| std::fs::read(dir.path().join(name)).expect("made"))
    }

    #[test]
    fn debug_information_is_harmless_and_data_is_not() {
        for bytes in compiled("int f(void) { return 1; }\n") {
            assert!(!scanner().mentions(&bytes).is_empty(), "the debug information names the directory");
            assert!(only_in_debug_sections(&bytes, &scanner()));
        }
        for bytes in compiled(&format!("const char *f(void) {{ return \"{DIR}/x\"; }}\n")) {
            assert!(!only_in_debug_sections(&bytes, &scanner()));
        }
    }

    #[test]
    fn what_is_not_understood_matters() {
        let text = format!("a {DIR} b").into_bytes();
        assert!(!only_in_debug_sections(&text, &scanner()));
        assert!(!only_in_debug_sections(&[b"\x7fELF", &text[..]].concat(), &scanner()));
        assert!(!only_in_debug_sections(&[b"!<arch>\n", &text[..]].concat(), &scanner()));
        assert!(only_in_debug_sections(b"nothing", &scanner()));
    }
}
