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

/// A library, a macro, and a library whose macro looks at the clock: that one is never made twice the same.
const UNLIKE: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"dep\", \"mac\", \"odd\"]\n"),
    ("dep/Cargo.toml", "[package]\nname = \"dep\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
    ("dep/src/lib.rs", "pub fn value() -> i64 {\n    1\n}\n"),
    (
        "mac/Cargo.toml",
        "[package]\nname = \"mac\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\nproc-macro = true\n",
    ),
    (
        "mac/src/lib.rs",
        "use proc_macro::TokenStream;\n#[proc_macro]\npub fn now(_: TokenStream) -> TokenStream {\n    \
         format!(\"\\\"{:?}\\\"\", std::time::SystemTime::now()).parse().unwrap()\n}\n",
    ),
    (
        "odd/Cargo.toml",
        "[package]\nname = \"odd\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\nmac = { path = \"../mac\" }\n",
    ),
    ("odd/src/lib.rs", "pub const NOW: &str = mac::now!();\n"),
];

const OTHER_PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
const OTHER_PUBLIC: &str = "MCowBQYDK2VwAyEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";

/// What one machine has published is used where two have to vouch for it, once another has made the same and signed it.
#[test]
fn a_witness_signs_what_it_makes_the_same_and_lists_the_rest() {
    let server = S3::start();
    let with = |signing: Option<&str>| {
        let lab = machine(&server);
        lab.set_env("KACHE_S3_TRUSTED_KEYS", format!("{PUBLIC},{OTHER_PUBLIC}"));
        lab.set_env("KACHE_S3_WITNESSES", "2");
        if let Some(key) = signing {
            lab.set_env("KACHE_S3_SIGNING_KEY", key);
        }
        lab
    };
    let publisher = with(Some(PRIVATE));
    let one = publisher.project("one", UNLIKE);
    one.cargo("build").ok();
    ok(&one, "sync --push");

    let early = with(None);
    let two = moved_with(&early, &one, UNLIKE);
    let said = ok(&two, "sync --pull");
    assert!(said.contains("Pulled 0 entries") && said.contains("3 are in the remote with fewer"), "{said}");
    let unable = command(&two, "verify --attest").output().expect("kache runs");
    let said = String::from_utf8_lossy(&unable.stderr).into_owned();
    assert!(unable.status.code() == Some(2) && said.contains("no key to sign with"), "{said}");

    let witness = with(Some(OTHER_PRIVATE));
    let three = moved_with(&witness, &one, UNLIKE);
    let attested = command(&three, "verify --attest --json").output().expect("kache runs");
    let json: Result<serde_json::Value, _> = serde_json::from_slice(&attested.stdout);
    let json = json.unwrap_or_else(|error| panic!("{error}: {attested:?}"));
    let found = &json["attested"];
    assert_eq!(
        (&found["signed"], &found["already"], &found["absent"]),
        (&2.into(), &0.into(), &0.into()),
        "{json:#}"
    );
    assert_eq!(found["different"][0]["unit"], "odd 0.1.0", "{json:#}");
    assert_eq!(
        (attested.status.code(), found["different"].as_array().map(Vec::len)),
        (Some(3), Some(1)),
        "{json:#}"
    );
    let again = command(&three, "verify --attest").output().expect("kache runs");
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.contains("Signed 0 results") && text.contains("2 had this signature"), "{text}");
    assert!(text.contains("odd 0.1.0"), "{text}");

    let late = with(None);
    let four = moved_with(&late, &one, UNLIKE);
    let said = ok(&four, "sync --pull");
    assert!(said.contains("Pulled 2 entries") && said.contains("1 are in the remote with fewer"), "{said}");
    let tally = four.cargo("build").ok().tally();
    assert_eq!((tally.hits, tally.misses), (2, 1), "{tally:?}");
    let listed = command(&four, "verify --origin").output().expect("kache runs");
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
}
