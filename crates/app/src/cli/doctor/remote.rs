//! Checks of the remote: shows what trying it step by step found, with what to do about it.

use kache_core::config::{Backend, Remote, Settings};
use kache_service::health::{Step, examine};
use kache_service::setup::{block_on, policy};

use super::{Findings, Verdict};
use crate::cli::transfers::hint_for;

/// Tries the remote, where one is configured.
pub fn check(settings: &Settings, findings: &mut Findings) {
    let levels: Vec<Remote> = settings.remote().into_iter().flat_map(Remote::levels).collect();
    for (i, remote) in levels.iter().enumerate() {
        findings.section = "Remote";
        if levels.len() > 1 {
            findings.add(Verdict::Note, format!("level {} of {}, nearest first:", i + 1, levels.len()));
        }
        check_level(settings, remote, findings);
    }
}

fn check_level(settings: &Settings, remote: &Remote, findings: &mut Findings) {
    let prefix = &remote.prefix.value;
    let place = match &remote.backend {
        Backend::S3(s3) => {
            let endpoint = s3.endpoint.as_ref().map_or("AWS", |endpoint| endpoint.value.as_str());
            format!("bucket {} at {endpoint}, region {}", s3.bucket.value, s3.region.value)
        }
        Backend::File(folder) => format!("folder {}", folder.value.display()),
        Backend::Http(http) => format!("web server {}", http.url.value),
        Backend::Gcs(gcs) => format!("bucket {} at {}", gcs.bucket.value, gcs.server()),
        Backend::Azure(azure) => format!("container {} at {}", azure.container.value, azure.endpoint.value),
        Backend::Gha(gha) => format!("cache service of GitHub Actions at {}", gha.url),
    };
    findings.add(Verdict::Note, format!("{place}, prefix {prefix}"));
    if let Err(error) = policy(settings, remote) {
        findings.add(Verdict::Bad, error.to_string());
    }
    if let Some(why) = remote.why_read_only() {
        findings.add(Verdict::Note, format!("nothing is pushed: {why}"));
    }
    if remote.write_only.value {
        findings.add(Verdict::Note, "nothing is pulled: `write_only` is set");
    }
    match block_on(examine(remote)) {
        Ok(steps) => steps.into_iter().for_each(|step| show(step, &remote.backend, findings)),
        Err(error) => findings.add(Verdict::Bad, error.to_string()),
    }
}

fn show(step: Step, backend: &Backend, findings: &mut Findings) {
    match step {
        Step::Good(what) => findings.add(Verdict::Good, what),
        Step::ReadOnly(what) => findings.add_with_hint(
            Verdict::Note,
            what,
            match backend {
                Backend::S3(_) => {
                    "pulls work, pushes don't; s3:PutObject below {prefix}/v3/ and {prefix}/_manifests/ allows them"
                }
                Backend::File(_) => "pulls work, pushes don't; the right to write into the folder allows them",
                Backend::Http(_) => "pulls work, pushes don't; a server that accepts PUT allows them",
                Backend::Gcs(_) => "pulls work, pushes don't; the role Storage Object User allows them",
                Backend::Azure(_) => "pulls work, pushes don't; the permission to write and to create allows them",
                Backend::Gha(_) => "pulls work, pushes don't; jobs for branches of this repository may push",
            },
        ),
        Step::NoListing(what) => findings.add_with_hint(
            Verdict::Warning,
            what,
            "the right to list (s3:ListBucket, storage.objects.list, `l` of a shared access signature) lets `kache sync --pull` find entries without a saved build manifest",
        ),
        Step::Bad(what, fault) => match fault.and_then(|fault| hint_for(fault, backend)) {
            Some(hint) => findings.add_with_hint(Verdict::Bad, what, hint),
            None => findings.add(Verdict::Bad, what),
        },
    }
}
