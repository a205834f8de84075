//! What the compiler prints, and paths in it.

#![no_main]

use kache_core::diagnostics;
use kache_core::paths::{Root, Roots};
use kache_core::scan::{Scanner, only_locates};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let roots = Roots::new([(Root::Workspace, "/w/a\"b".to_owned()), (Root::Target, "/t".to_owned())]);
    let _ = diagnostics::classify(data);
    let _ = diagnostics::degraded(data);
    let _ = diagnostics::unmap(data, &roots, &[Root::Target, Root::Workspace]);
    let _ = Scanner::new(&roots, &["/home"]).mentions(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = only_locates(text, "OUT_DIR");
    if let Some(tokens) = roots.tokenize(text) {
        assert_eq!(roots.detokenize(&tokens).as_deref(), Some(text), "a text survives its tokens");
    }
});
