//! What tells one CI job from another, and whether it is for a pull request, whose code nobody has reviewed yet: by the
//! variables that CI services document. Knows names and values, reads nothing.

use super::env::KACHE_JOB;

/// What the value of a variable has to be.
enum Says {
    /// Set, and neither empty nor `false`.
    Something,
    /// It begins with this, in any case of letters.
    Beginning(&'static str),
}

use Says::{Beginning, Something};

/// One variable a service; the first that says yes is named to people.
const VARIABLES: &[(&str, Says)] = &[
    // GitHub, Forgejo, Gitea: `pull_request`, `pull_request_target`, …
    ("GITHUB_EVENT_NAME", Beginning("pull_request")),
    ("CI_MERGE_REQUEST_IID", Something),
    // GitLab, for pull requests on GitHub.
    ("CI_EXTERNAL_PULL_REQUEST_IID", Something),
    ("BITBUCKET_PR_ID", Something),
    ("CIRCLE_PR_NUMBER", Something),
    ("CIRCLE_PULL_REQUEST", Something),
    ("TRAVIS_PULL_REQUEST", Something),
    ("APPVEYOR_PULL_REQUEST_NUMBER", Something),
    ("SYSTEM_PULLREQUEST_PULLREQUESTID", Something),
    ("BUILDKITE_PULL_REQUEST", Something),
    ("DRONE_PULL_REQUEST", Something),
    // Woodpecker.
    ("CI_PIPELINE_EVENT", Beginning("pull_request")),
    ("CIRRUS_PR", Something),
    ("SEMAPHORE_GIT_PR_NUMBER", Something),
    ("CODEBUILD_WEBHOOK_EVENT", Beginning("pull_request")),
    // Jenkins; the name alone is too common.
    ("CHANGE_ID", Something),
];

/// What together names one job of a service, which every process of it has. Of Jenkins only what no other service sets.
const JOBS: &[&[&str]] = &[
    &[KACHE_JOB],
    // GitHub, Forgejo, Gitea.
    &["GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB"],
    &["BUILDKITE_JOB_ID"],
    &["CIRCLE_WORKFLOW_JOB_ID"],
    &["TRAVIS_JOB_ID"],
    &["APPVEYOR_JOB_ID"],
    &["SYSTEM_JOBID", "SYSTEM_JOBATTEMPT"],
    &["CIRRUS_TASK_ID"],
    &["SEMAPHORE_JOB_ID"],
    &["CODEBUILD_BUILD_ID"],
    &["BITBUCKET_BUILD_NUMBER", "BITBUCKET_STEP_UUID"],
    &["DRONE_REPO", "DRONE_BUILD_NUMBER", "DRONE_STAGE_NUMBER"],
    // Woodpecker, then GitLab.
    &["CI_PIPELINE_NUMBER", "CI_WORKFLOW_NUMBER", "CI_REPO_ID"],
    &["CI_JOB_ID"],
    &["JENKINS_URL", "BUILD_TAG"],
];
/// Longest mark.
const JOB_CHARS_MAX: usize = 200;

/// The mark of this CI job, or what `KACHE_JOB` says.
pub fn job(value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let set = |name: &&str| value(name).filter(|value| !value.is_empty());
    let mark = JOBS.iter().find_map(|names| names.iter().map(set).collect::<Option<Vec<_>>>());
    mark.map(|parts| parts.join(" ").chars().take(JOB_CHARS_MAX).collect())
}

/// The variable that shows that this is a job for a pull request.
pub(super) fn pull_request(value: impl Fn(&str) -> Option<String>) -> Option<&'static str> {
    let is_set = |name: &str| value(name).is_some_and(|value| !value.is_empty() && value != "false");
    let is_so = |(name, says): &&(&'static str, Says)| match says {
        Beginning(start) => value(name).is_some_and(|it| it.to_ascii_lowercase().starts_with(start)),
        Something => is_set(name) && (*name != "CHANGE_ID" || is_set("JENKINS_URL")),
    };
    VARIABLES.iter().find(is_so).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_has_a_mark_of_its_own() {
        for (variables, expected) in [
            (
                &[("GITHUB_RUN_ID", "7"), ("GITHUB_RUN_ATTEMPT", "1"), ("GITHUB_JOB", "test")][..],
                Some("7 1 test"),
            ),
            (&[("GITHUB_RUN_ID", "7")], None),
            (&[("CI", "true"), ("CI_JOB_ID", "12")], Some("12")),
            (&[("CI_JOB_ID", "12"), ("KACHE_JOB", "nightly")], Some("nightly")),
            (&[("KACHE_JOB", "")], None),
            (&[("BUILD_TAG", "mine")], None),
            (&[("BUILD_TAG", "jenkins-a-4"), ("JENKINS_URL", "u")], Some("u jenkins-a-4")),
            (&[], None),
        ] {
            let found = job(|name| {
                let found = variables.iter().find(|(set, _)| *set == name);
                found.map(|(_, value)| (*value).to_owned())
            });
            assert_eq!(found.as_deref(), expected, "{variables:?}");
        }
        let long = job(|name| (name == "CI_JOB_ID").then(|| "é".repeat(900)));
        assert_eq!(long.map(|mark| mark.chars().count()), Some(JOB_CHARS_MAX));
    }

    #[test]
    fn jobs_of_pull_requests_are_told_from_others() {
        for (variables, expected) in [
            (&[("GITHUB_EVENT_NAME", "pull_request")][..], Some("GITHUB_EVENT_NAME")),
            (&[("GITHUB_EVENT_NAME", "pull_request_target")], Some("GITHUB_EVENT_NAME")),
            (&[("GITHUB_EVENT_NAME", "push"), ("CI", "true")], None),
            (&[("CI_MERGE_REQUEST_IID", "7")], Some("CI_MERGE_REQUEST_IID")),
            (&[("TRAVIS_PULL_REQUEST", "false")], None),
            (&[("TRAVIS_PULL_REQUEST", "12")], Some("TRAVIS_PULL_REQUEST")),
            (&[("BUILDKITE_PULL_REQUEST", "false")], None),
            (&[("CODEBUILD_WEBHOOK_EVENT", "PULL_REQUEST_CREATED")], Some("CODEBUILD_WEBHOOK_EVENT")),
            (&[("CHANGE_ID", "3")], None),
            (&[("CHANGE_ID", "3"), ("JENKINS_URL", "http://ci")], Some("CHANGE_ID")),
            (&[("CIRCLE_PULL_REQUEST", "")], None),
            (&[], None),
        ] {
            let value = |name: &str| {
                let found = variables.iter().find(|(set, _)| *set == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(pull_request(value), expected, "{variables:?}");
        }
    }
}
