//! Command lines, as from a response file.

#![no_main]

use std::ffi::{OsStr, OsString};

use kache_core::invocation::{Env, Invocation};
use kache_core::paths::{Root, Roots};
use kache_core::remap::{self, Adjustments};
use kache_core::unit::Unit;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // One argument a line, as in a response file. Behind an empty line: the environment.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (args, env) = text.split_once("\n\n").unwrap_or((text, ""));
    let argv: Vec<OsString> = std::iter::once("rustc").chain(args.lines()).map(OsString::from).collect();
    let env = Env::new(env.lines().filter_map(|line| line.split_once('=')).map(|(n, v)| (n.into(), v.into())));
    let Ok(call) = Invocation::split(&argv, OsStr::new("/w"), env) else { return };
    let roots = Roots::new([(Root::Workspace, "/w".to_owned()), (Root::Target, "/w/target".to_owned())]);
    if let Ok(unit) = Unit::parse(&call) {
        let adjustments = Adjustments { remapped: remap::remapped_roots(&unit, &roots), ..Adjustments::default() };
        let args = remap::adjust(&call.args, &roots, &adjustments);
        assert!(args.iter().filter(|arg| call.args.contains(arg)).count() <= call.args.len() + adjustments.remapped.len());
        let _ = (unit.stem(), unit.dep_info_name(), unit.kind(), unit.runs_linker());
    }
});
