//! Checks of proofs that results don't depend on their place: whether they are on, and what they came to.

use kache_core::config::Settings;
use kache_engine::proof::{Counts, counts};
use kache_store::Store;

use super::{Findings, Verdict};

pub fn check(settings: &Settings, store: &Store, findings: &mut Findings) {
    findings.section = "Proofs";
    if !settings.prove.value {
        return findings.add(Verdict::Note, "are off (KACHE_PROVE or cache.prove)");
    }
    judge(counts(store), findings);
}

fn judge(counts: Counts, findings: &mut Findings) {
    let Counts { pending, made, failed } = counts;
    let what =
        format!("{made} results fit every place, {failed} don't or can't be shown to, {pending} pending");
    if pending == 0 {
        return findings.add(Verdict::Good, what);
    }
    let hint = "the wrapper works on them after a build; `kache prove` does it now";
    findings.add_with_hint(Verdict::Note, what, hint);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_is_said() {
        for (pending, verdict) in [(0, Verdict::Good), (2, Verdict::Note)] {
            let mut findings = Findings::default();
            judge(Counts { pending, made: 5, failed: 1 }, &mut findings);
            let check = &findings.checks[0];
            assert!(
                check.verdict == verdict && check.what.contains(&format!("{pending} pending")),
                "{check:?}"
            );
        }
    }
}
