//! The lines that rustc writes to standard error under `--error-format=json`: which of them announce an output,
//! which are messages, and how a message gets its real paths back. Does not know who reads them.

use serde::Deserialize;

use crate::paths::{Root, Roots};

/// What a line of standard error is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Artifact {
        path: String,
        /// `dep-info`, `metadata` or `link`.
        emit: String,
    },
    /// When a section of the compile started or ended (`--json=timings`): true of this compile only, read by Cargo's
    /// `--timings` (`src/cargo/core/compiler/timings/mod.rs`, 1.96 and later).
    Timing,
    /// Anything that a person may see.
    Message,
}

#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "$message_type")]
    message_type: String,
    artifact: Option<String>,
    emit: Option<String>,
}

pub fn classify(line: &[u8]) -> Line {
    // Diagnostics are long and frequent; only notifications are parsed.
    const START: &[u8] = b"{\"$message_type\":\"artifact\"";
    const TIMING: &[u8] = b"{\"$message_type\":\"section_timing\"";
    if line.starts_with(TIMING) {
        return Line::Timing;
    }
    if !line.starts_with(START) {
        return Line::Message;
    }
    match serde_json::from_slice::<Notification>(line) {
        Ok(Notification { message_type, artifact: Some(path), emit: Some(emit) })
            if message_type == "artifact" =>
        {
            Line::Artifact { path, emit }
        }
        _ => Line::Message,
    }
}

/// How the system calls a full disk.
const NO_SPACE: &str = "No space left on device";

/// Messages by which rustc says that a helper program failed and that it went on with a lesser result, or that
/// something is wrong with this machine's file system, which others needn't be told.
const DEGRADED: &[&str] = &[
    "stripping debug info with",
    "unable to run `rust-objcopy",
    "failed to connect to jobserver",
    NO_SPACE,
    "incremental compilation session directory",
    "in the incremental compilation cache",
    "corrupt incremental compilation artifact",
];

/// Whether a message tells of a disk without room, perhaps: a linker that maps its output into memory dies of it.
pub fn tells_of_full_disk(line: &[u8]) -> bool {
    [NO_SPACE, "signal 7 [Bus error]", "signal: 7"].iter().any(|sign| contains(line, sign.as_bytes()))
}

/// The sign of a degraded result in a message, if there is one.
pub fn degraded(line: &[u8]) -> Option<&'static str> {
    DEGRADED.iter().copied().find(|sign| contains(line, sign.as_bytes()))
}

/// Puts real paths in place of the ones that the compile was told to write (see [`Root::remap_target`]). `None`
/// when there is nothing to do.
pub fn unmap(line: &[u8], roots: &Roots, remapped: &[Root]) -> Option<Vec<u8>> {
    if remapped.is_empty() || !(contains(line, b"././") || contains(line, b"/kache/")) {
        return None;
    }
    let mut text = std::str::from_utf8(line).ok()?.to_owned();
    for root in remapped {
        if let Some(path) = roots.get(*root) {
            let json = serde_json::to_string(path).unwrap_or_default();
            let escaped = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
            text = text.replace(root.remap_target(), escaped);
        }
    }
    Some(text.into_bytes())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_are_told_from_messages() {
        let line = br#"{"$message_type":"artifact","artifact":"/t/deps/liba-1.rmeta","emit":"metadata"}"#;
        let artifact = Line::Artifact { path: "/t/deps/liba-1.rmeta".into(), emit: "metadata".into() };
        assert_eq!(classify(line), artifact);
        let timing =
            br#"{"$message_type":"section_timing","name":"codegen","event":"start","timestamp":125114}"#;
        assert_eq!(classify(timing), Line::Timing);
        for other in [
            &br#"{"$message_type":"diagnostic","message":"{\"$message_type\":\"artifact\""}"#[..],
            b"plain text",
            b"",
            br#"{"$message_type":"artifact","artifact":3}"#,
        ] {
            assert_eq!(classify(other), Line::Message);
        }
    }

    #[test]
    fn messages_name_real_paths() {
        let roots = Roots::new([(Root::Workspace, "/w/a\"b".into()), (Root::Target, "/t".into())]);
        let all = [Root::Target, Root::Workspace];
        let line = br#"{"rendered":" --> ././target/debug/g.rs:1:1\n ::: ./././dep/src/lib.rs:3"}"#;
        let real = unmap(line, &roots, &all).expect("something to do");
        assert_eq!(
            String::from_utf8_lossy(&real),
            r#"{"rendered":" --> /t/debug/g.rs:1:1\n ::: /w/a\"b/dep/src/lib.rs:3"}"#
        );
        assert_eq!(unmap(b"src/lib.rs", &roots, &all), None);
        assert_eq!(unmap(line, &roots, &[]), None);
    }

    #[test]
    fn a_full_disk_has_several_voices() {
        for (line, expected) in [
            ("ld: final link failed: No space left on device", true),
            ("collect2: fatal error: ld terminated with signal 7 [Bus error]", true),
            ("error: linking with `ld.lld` failed: signal: 7 (SIGBUS) (core dumped)", true),
            ("error: the bus is full", false),
        ] {
            assert_eq!(tells_of_full_disk(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn degraded_results_are_noticed() {
        assert!(
            degraded(b"warning: stripping debug info with `rust-objcopy` failed: exit status: 127").is_some()
        );
        assert_eq!(degraded(b"warning: unused variable"), None);
    }
}
