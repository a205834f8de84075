//! Which environment variables count as inputs of a compile, by what was observed: tables of what programs read without
//! consequence for a result. Doesn't know how reads come to light.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use kache_core::invocation::Invocation;
use kache_core::record::Input;
use kache_store::sys::{self, AccessKind, Observation, ObservedAccess, VariableRead};

use crate::elf;
use crate::link_inputs::is_compiler_driver;
use crate::toolchain::Toolchain;

/// What the compiler asks for on its own behalf, and why no result depends on it, from a trace of rustc 1.95. A macro
/// that asks for the same is told apart. A name that ends with `_` stands for all that begin with it.
const OF_COMPILER: &[(&str, &str)] = &[
    ("CARGO_MAKEFLAGS", "how many threads may work"),
    ("MAKEFLAGS", "the same"),
    ("MFLAGS", "the same"),
    ("CI", "whether a crash is reported in another way"),
    ("MALLOC_CONF", "how memory is managed"),
    ("JEMALLOC_", "the same"),
    ("PATH", "where the linker is: a program counts by where it is found"),
    ("TMPDIR", "where temporary files are"),
    ("RUST_BACKTRACE", "what a crash prints"),
    ("RUST_LIB_BACKTRACE", "the same"),
    ("RUST_MIN_STACK", "when a crash comes"),
    ("RUSTC_CTFE_BACKTRACE", "the same"),
    ("RUSTC_LOG", "the compiler's log"),
    ("RUSTC_LOG_", "the same"),
    ("RUSTC_ICE", "where a report of a crash goes"),
    ("RUSTC_GRAPHVIZ_FONT", "how dumps look"),
    ("LLVM_IGNORED_ENV_VAR", "nothing"),
    ("LLVM_PROFILE_FILE", "where counters of an instrumented compiler go"),
    ("TERM", "how messages look: Cargo says so by a flag"),
    ("COLORTERM", "the same"),
    ("NO_COLOR", "the same"),
    ("CLICOLOR", "the same"),
    ("COLUMNS", "the same"),
    ("LINES", "the same"),
    ("LD_LIBRARY_PATH", "what was found along it counts"),
    ("LD_PRELOAD", "what is preloaded counts"),
    ("CARGO", "that Cargo calls"),
    ("RUSTC_BOOTSTRAP", "the unit key has it"),
    ("CARGO_MANIFEST_DIR", "where Clippy's configuration is: the unit key has its content"),
    ("CLIPPY_CONF_DIR", "the same"),
    ("CLIPPY_ARGS", "the unit key has it"),
];

/// The same of linkers and C compilers (GCC 12, LLD 22).
const OF_LINKERS: &[(&str, &str)] = &[
    ("COLLECT_", "the driver sets it for its parts"),
    ("PATH", "where parts are found: programs count by where they are"),
    ("MAKEFLAGS", "how many threads may work"),
    ("TMPDIR", "where temporary files are"),
    ("TMP", "the same"),
    ("TEMP", "the same"),
    ("TERM", "how messages look"),
    ("COLUMNS", "the same"),
    ("GCC_COLORS", "the same"),
    ("GCC_EXTRA_DIAGNOSTIC_OUTPUT", "the same"),
    ("GCC_URLS", "the same"),
    ("TERM_URLS", "the same"),
    ("LANG", "the language of messages"),
    ("LANGUAGE", "the same"),
    ("LC_", "the same"),
    ("OUTPUT_CHARSET", "the same"),
    ("LLVM_IGNORED_ENV_VAR", "nothing"),
    ("FORCE_LLD_DIAGNOSTICS_CRASH", "a crash"),
    ("LLD_REPRODUCE", "a further file"),
];

/// Programs that a linker's or a C compiler's driver starts, and those beside them.
const PARTS_OF_LINKERS: &[&str] = &[
    "collect2",
    "ld",
    "ld.bfd",
    "ld.gold",
    "ld.lld",
    "lld",
    "rust-lld",
    "mold",
    "wild",
    "lto-wrapper",
    "as",
    "cc1",
    "cc1plus",
    "ar",
    "ranlib",
];

/// What an observed read of a variable says.
pub(crate) fn input(call: &Invocation, read: VariableRead<'_>) -> Option<Input> {
    let is_compiler = [Some(call.compiler.as_str()), call.driver.as_deref()]
        .into_iter()
        .flatten()
        .any(|program| Path::new(program).file_name().is_some_and(|name| name == read.program))
        || read.program == "rustc";
    let harmless = match read {
        VariableRead { by_plugin: true, .. } => ALONG_PATH,
        _ if is_compiler => OF_COMPILER,
        _ if is_linker(read.program) => OF_LINKERS,
        _ => ALONG_PATH,
    };
    let is_harmless = harmless
        .iter()
        .any(|(known, _)| read.name == *known || known.ends_with('_') && read.name.starts_with(known));
    (!is_harmless).then(|| Input::Env(read.name.to_owned()))
}

const ALONG_PATH: &[(&str, &str)] = &[
    ("PATH", "programs count by where they are found"),
    ("LD_PRELOAD", "what is preloaded counts"),
    ("ASAN_OPTIONS", "kache sets it, see `engine::sight`"),
];

fn is_linker(program: &str) -> bool {
    let is_part = |part: &&str| program == *part || program.ends_with(&format!("-{part}"));
    PARTS_OF_LINKERS.iter().any(is_part) || is_compiler_driver(program)
}

/// Whether a program other than the linker, and not `is_own`, ran: a shell or an interpreter takes its variables from the table that every
/// program gets, unseen.
pub(crate) fn ran_programs(seen: &Observation, is_own: impl Fn(&Path) -> bool) -> bool {
    let mut programs = seen.accesses.iter().filter(|access| access.kind == AccessKind::Exec);
    programs.any(|access| {
        let name = access.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !is_linker(name)
            && !name.starts_with("rustc")
            && !name.ends_with("-driver")
            && !is_own(&access.path)
            && access.path.is_file()
    })
}

/// Whether a library lists all variables: code in it that isn't the standard library's uses `std::env::vars` or
/// `vars_os`. A library without symbols doesn't show it.
pub(crate) fn lists_all(library: &[u8]) -> bool {
    // Both of rustc's manglings end so, the older one with a hash.
    let is_listing = |name: &str| {
        ["3std3env4vars", "3std3env7vars_os"]
            .iter()
            .any(|path| name.ends_with(path) || name.contains(&format!("{path}17h")))
    };
    // The standard library lists them itself, for a program that it starts with other ones.
    elf::users(library, is_listing).is_some_and(|users| users.iter().any(|name| !is_of_std(name)))
}

/// Whether a mangled name is that of a function of the standard library: the first crate in it is `std`.
fn is_of_std(name: &str) -> bool {
    let Some(path) = name.strip_prefix("_R") else { return name.starts_with("_ZN3std") };
    // `Cs`, a number in base 62, `_`, and the name with its length (`rustc-dev-guide`, symbol mangling v0).
    path.split_once("Cs").is_some_and(|(_, root)| {
        let name = root.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        name.starts_with("_3std")
    })
}

/// Names in a text of a shell's or an interpreter's that may be variables: words after a dollar sign, a percent sign or
/// a quote.
pub(crate) fn named_in_script(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.char_indices().filter(|(_, c)| matches!(c, '$' | '%' | '"' | '\''));
    starts.filter_map(move |(at, _)| {
        let rest = text[at + 1..].trim_start_matches('{');
        let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let is_name = (2..=64).contains(&name.len()) && !name.starts_with(|c: char| c.is_ascii_digit());
        is_name.then_some(name)
    })
}

/// What the C library reads by itself, without the call that can be observed: the locale and the time zone.
const OF_C_LIBRARY: &[&str] = &[
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NUMERIC",
    "LC_TIME",
    "TZ",
];

/// Variables that programs may have read unseen: those that the C library knows, and those in the texts of scripts.
pub(crate) fn inputs_of_scripts(toolchain: &Toolchain, seen: &Observation) -> Vec<Input> {
    /// Extensions of sources that no interpreter reads.
    const COMPILED: &[&str] =
        &["rs", "c", "cc", "cpp", "cxx", "h", "hh", "hpp", "hxx", "inc", "s", "S", "asm"];
    /// Longer files are hardly scripts, in bytes.
    const SCRIPT_BYTES_MAX: u64 = 1 << 20;
    let is_used = |access: &&ObservedAccess| matches!(access.kind, AccessKind::Read | AccessKind::Exec);
    let is_script = |path: &Path| {
        let is_short = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= SCRIPT_BYTES_MAX);
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        is_short && !COMPILED.contains(&extension) && !toolchain.owns(path)
    };
    let texts = seen.accesses.iter().filter(is_used).filter(|access| is_script(&access.path));
    let texts = texts.filter_map(|access| fs::read_to_string(&access.path).ok());
    let names: BTreeSet<String> =
        texts.flat_map(|text| named_in_script(&text).map(str::to_owned).collect::<Vec<_>>()).collect();
    let names = names.into_iter().chain(OF_C_LIBRARY.iter().map(|name| (*name).to_owned()));
    let counts = |name: &String| !ALONG_PATH.iter().any(|(known, _)| name == known);
    names.filter(counts).map(Input::Env).collect()
}

pub(crate) fn reads(seen: &Observation) -> impl Iterator<Item = VariableRead<'_>> {
    seen.accesses.iter().filter_map(|access| sys::variable_read(&access.path))
}

/// The program that asked for each variable; a macro before any other.
pub(crate) fn readers(seen: &Observation) -> BTreeMap<String, String> {
    let mut readers = BTreeMap::new();
    for read in reads(seen) {
        if read.by_plugin {
            readers.insert(read.name.to_owned(), "macro".to_owned());
        } else {
            readers.entry(read.name.to_owned()).or_insert_with(|| read.program.to_owned());
        }
    }
    readers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_the_standard_library() {
        for (name, expected) in [
            ("_RNvNtCsjrHSEGnQ3l9_3std3env4vars", true),
            ("_RNvMs_NtNtNtNtCsjrHSEGnQ3l9_3std3sys7process4unix6commonNtB4_7Command11capture_env", true),
            ("_ZN3std7process7Command6output17h0123456789abcdefE", true),
            ("_ZN4mac22ci17h11609032162c6024E", false),
            ("_RINvCsgEmfK2I1SDS_3mac4listNtNtCsjrHSEGnQ3l9_3std3env4VarsE", false),
            ("", false),
        ] {
            assert_eq!(is_of_std(name), expected, "{name}");
        }
    }

    #[test]
    fn names_in_scripts() {
        let text = r#"#!/bin/sh
            echo "$FLAVOUR ${size:-3} %CD% $1"; os.environ['lower_case']; getenv("X9") plain"#;
        let names: Vec<_> = named_in_script(text).collect();
        assert_eq!(names, ["FLAVOUR", "size", "CD", "lower_case", "X9"]);
    }

    #[test]
    fn linkers_and_their_parts() {
        for (program, expected) in [
            ("cc", true),
            ("x86_64-linux-gnu-gcc-12", true),
            ("collect2", true),
            ("x86_64-linux-gnu-ld", true),
            ("ld.mold", false),
            ("rust-lld", true),
            ("python3.11", false),
            ("protoc", false),
            ("bash", false),
        ] {
            assert_eq!(is_linker(program), expected, "{program}");
        }
    }
}
