//! Calls that don't come from Cargo, or not in the form that Cargo uses: the result is the compiler's own, file by
//! file. Each call is made in two directories alike, once through kache and once without.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use kache_testkit::{Audit, Call, toolchain, tree};

use crate::fixtures::PAIR;
use crate::support::{Lab, lab, lean_lab};

/// What a call left and said.
type Trace = (Option<i32>, Vec<u8>, Vec<u8>, BTreeMap<PathBuf, Vec<u8>>);

fn call(lab: &Lab, dir: &Path, args: &str, through_kache: bool) -> Trace {
    let rustc = &toolchain().rustc;
    let mut command = lab.command(if through_kache { lab.wrapper() } else { rustc });
    if through_kache {
        command.arg(rustc);
    }
    command.args(args.split_whitespace()).current_dir(dir).stdin(Stdio::null());
    let output = command.output().expect("start a compiler");
    (output.status.code(), output.stdout, output.stderr, tree(dir, &[]))
}

/// B24, C11, C12, protocol 14: every form of naming outputs, odd flags, missing ones: three times through kache, each
/// time as without it.
#[test]
fn b24_output_forms() {
    let lab = lab();
    let table = [
        "a.rs",
        "-o prog a.rs",
        "--crate-type lib a.rs",
        "--crate-type lib -o liba.rlib a.rs",
        "--crate-type lib --crate-name a --emit=metadata a.rs",
        "--crate-type lib --crate-name a --emit=metadata,dep-info --out-dir out a.rs",
        "--crate-type lib --crate-name a --emit=metadata=x.rmeta,dep-info=y.d a.rs",
        "--crate-type lib --crate-name a --emit=dep-info=d -C extra-filename=-1 -o x a.rs",
        "--crate-type lib --crate-name a --emit=link,metadata,dep-info -C metadata=1 -C extra-filename=-1 --out-dir out a.rs",
        "--crate-type lib --crate-name a --emit=asm --emit=mir --out-dir out a.rs",
        "--crate-type lib --crate-type cdylib --crate-name a --emit=link,dep-info --out-dir out a.rs",
        "--crate-type staticlib --crate-name a --emit=link --print native-static-libs --out-dir out a.rs",
        "--crate-type lib --crate-name bad --emit=metadata --out-dir out bad.rs",
        "--crate-type lib --crate-name a --emit=metadata --out-dir out --error-format=json a.rs",
        "--crate-type lib --crate-name a --emit=metadata --out-dir out missing.rs",
        "--crate-type lib --crate-name a --out-dir out a.rs b.rs",
        "--crate-type lib --crate-name a --emit=metadata=- a.rs",
        "--test --crate-name a --emit=dep-info,metadata --out-dir out a.rs",
        "@args",
        "@missing",
        "--crate-type nonsense a.rs",
        "--no-such-flag a.rs",
    ];
    for args in table {
        for round in 0..3 {
            // The same path for both, because it goes into the outputs.
            let dir = lab.root().join("place");
            let traces = [true, false].map(|through_kache| {
                kache_testkit::remove_tree(&dir);
                lab.write("place/a.rs", "pub fn f() -> u32 { let unused = 1; 2 }\nfn main() {}\n");
                lab.write("place/b.rs", "");
                lab.write("place/bad.rs", "pub fn f( {\n");
                lab.write("place/args", "--crate-type\nlib\n--crate-name\na\n--emit=metadata\na.rs\n");
                call(&lab, &dir, args, through_kache)
            });
            let [cached, direct] = traces;
            assert_eq!(cached.0, direct.0, "exit code of `rustc {args}` (round {round})");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&cached.1), text(&direct.1), "standard output of `rustc {args}` (round {round})");
            assert_eq!(text(&cached.2), text(&direct.2), "standard error of `rustc {args}` (round {round})");
            let names = |trace: &Trace| trace.3.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&cached), names(&direct), "files of `rustc {args}` (round {round})");
            for (name, content) in &direct.3 {
                assert!(cached.3[name] == *content, "{} of `rustc {args}` (round {round})", name.display());
            }
        }
    }
}

fn run(call: &Call, lab: &Lab, cwd: &Path, out_dir: &Path) -> Output {
    let mut call = call.clone();
    call.cwd = cwd.to_path_buf();
    let at = call.args.iter().position(|a| a == "--out-dir").expect("--out-dir");
    call.args[at + 1] = out_dir.into();
    call.through(lab.wrapper()).stdin(Stdio::null()).output().expect("start kache")
}

/// C23: one relative source path, two working directories with different sources: nothing is mixed up.
#[test]
fn c23_relative_paths_belong_to_the_working_directory() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    let calls = Audit::new(&lab, "audit").record(&one.cargo("build -p dep"));
    let two = one.checkout("two");
    two.edit("dep/src/lib.rs", "1", "2");
    let library = |p: &kache_testkit::Project<'_>| {
        let out_dir = p.path("target/debug/deps");
        std::fs::create_dir_all(&out_dir).expect("make a directory");
        let output = run(&calls[0], &lab, p.dir(), &out_dir);
        assert!(output.status.success(), "{output:?}");
        let rlib = p.outputs(|name| name.ends_with(".rlib"));
        std::fs::read(&rlib[0]).expect("read the library")
    };
    one.wipe();
    let (first, second) = (library(&one), library(&two));
    assert_ne!(first, second);
    one.wipe();
    two.wipe();
    assert!(library(&two) == second && library(&one) == first, "libraries of two directories were mixed up");
}

/// B26: arguments and environment just below what the kernel allows: what kache adds doesn't break the call.
#[test]
fn b26_arguments_just_below_the_limit() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let calls = Audit::new(&lab, "audit").record(&p.cargo("build -p dep"));
    let padded = |bytes: usize| {
        let mut call = calls[0].clone();
        for i in 0..bytes / 1024 {
            call.args.extend(["--cfg".into(), format!("a{i}=\"{}\"", "x".repeat(1000)).into()]);
        }
        call.args.extend(["--cfg".into(), format!("b=\"{}\"", "x".repeat(bytes % 1024)).into()]);
        call
    };
    // The longest call that the kernel lets through to kache; a little is added to none but kache's own path.
    let fits = |bytes: usize| {
        let result = padded(bytes).through(Path::new("/bin/true")).status();
        result.is_ok_and(|status| status.success())
    };
    let (mut low, mut high) = (0usize, 16usize << 20);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    let spare = 2 * lab.wrapper().as_os_str().len();
    for bytes in [low - spare - 16, low - spare - 400] {
        p.wipe();
        std::fs::create_dir_all(p.path("target/debug/deps")).expect("make a directory");
        let call = padded(bytes);
        let (direct, cached) = (call.direct().status(), call.through(lab.wrapper()).output());
        let cached = cached.expect("start kache");
        assert_eq!(direct.expect("start rustc").code(), cached.status.code(), "{bytes}: {cached:?}");
        assert!(cached.status.success());
    }
}
