//! Whom a machine believes and what it signs, through real builds: what it pulled before it had keys is never signed by
//! it, and can be found and dropped. The table of all cases is in the service (`transfer/poison_tests.rs`).

use kache_testkit::S3;

use crate::fixtures::PAIR;
use crate::remote::{command, machine, moved_with, ok};
use crate::support::Outcomes as _;

const PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEILP2jBQzU8D6r08U2KiHwZpVloQnLn0a0dviey3OFGKI";
const PUBLIC: &str = "MCowBQYDK2VwAyEAVaWsN35x3G/LhFWbltTFO8ibi79WcszEMBKg78MNq1Y=";

#[test]
fn what_was_pulled_before_keys_were_set_is_not_signed_and_can_be_dropped() {
    let server = S3::start();
    let stranger = machine(&server);
    let one = stranger.project("one", PAIR);
    one.cargo("build").ok();
    ok(&one, "sync --push");

    let here = machine(&server);
    let two = moved_with(&here, &one, PAIR);
    ok(&two, "sync --pull");
    two.cargo("build").ok().all_hit();

    // Another bucket, so that nothing of the stranger's is in the way.
    let release = S3::start();
    for (name, value) in release.env() {
        here.set_env(name, value);
    }
    here.set_env("KACHE_S3_SIGNING_KEY", PRIVATE);
    let said = ok(&two, "sync --push");
    assert!(said.contains("Pushed 0 entries") && said.contains("kache verify --origin"), "{said}");
    assert_eq!(release.names(), [""; 0]);

    let listed = command(&two, "verify --origin").output().expect("kache runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(listed.status.code(), Some(3), "{text}");
    assert!(text.contains("dep 0.1.0: unsigned, from a remote"), "{text}");
    let json = command(&two, "verify --origin --drop --json").output().expect("kache runs");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert!(json["entries"].as_array().is_some_and(|entries| entries.len() >= 2), "{json:#}");
    let listed = command(&two, "verify --origin").output().expect("kache runs");
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");

    // Compiled here, it is signed, and whoever trusts the key is served.
    two.wipe();
    two.cargo("build").ok();
    let said = ok(&two, "sync --push");
    assert!(!said.contains("Pushed 0 entries"), "{said}");
    let victim = machine(&release);
    victim.set_env("KACHE_S3_TRUSTED_KEYS", PUBLIC);
    let three = moved_with(&victim, &one, PAIR);
    ok(&three, "sync --pull");
    three.cargo("build").ok().all_hit();
    let listed = command(&three, "verify --origin").output().expect("kache runs");
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
}
