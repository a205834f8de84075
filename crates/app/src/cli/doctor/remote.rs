//! Checks of the remote: shows what trying it step by step found, with what to do about it.

use kache_core::config::Settings;
use kache_service::health::{Step, examine};
use kache_service::setup::{block_on, policy};

use super::{Findings, Verdict};
use crate::cli::transfers::hint_for;

/// Tries the remote, where one is configured.
pub fn check(settings: &Settings, findings: &mut Findings) {
    let Some(remote) = settings.remote() else { return };
    findings.section = "Remote";
    let bucket = &remote.bucket.value;
    let endpoint = remote.endpoint.as_ref().map_or("AWS", |endpoint| endpoint.value.as_str());
    let (region, prefix) = (&remote.region.value, &remote.prefix.value);
    findings.add(Verdict::Note, format!("bucket {bucket} at {endpoint}, region {region}, prefix {prefix}"));
    if let Err(error) = policy(settings, remote) {
        findings.add(Verdict::Bad, error.to_string());
    }
    if let Some(why) = remote.why_read_only() {
        findings.add(Verdict::Note, format!("nothing is pushed: {why}"));
    }
    match block_on(examine(remote)) {
        Ok(steps) => steps.into_iter().for_each(|step| show(step, findings)),
        Err(error) => findings.add(Verdict::Bad, error.to_string()),
    }
}

fn show(step: Step, findings: &mut Findings) {
    match step {
        Step::Good(what) => findings.add(Verdict::Good, what),
        Step::ReadOnly(what) => findings.add_with_hint(
            Verdict::Note,
            what,
            "pulls work, pushes don't; s3:PutObject below {prefix}/v3/ and {prefix}/_manifests/ allows them",
        ),
        Step::NoListing(what) => findings.add_with_hint(
            Verdict::Warning,
            what,
            "s3:ListBucket lets `kache sync --pull` find entries without a saved build manifest",
        ),
        Step::Bad(what, fault) => match fault.and_then(hint_for) {
            Some(hint) => findings.add_with_hint(Verdict::Bad, what, hint),
            None => findings.add(Verdict::Bad, what),
        },
    }
}
