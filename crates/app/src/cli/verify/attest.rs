//! `kache verify --attest`: signs what others have published where the compiles of this build came to the same, and lists
//! where they didn't. Compiles nothing itself.

use std::fmt::Write as _;
use std::sync::Arc;

use kache_core::config::Settings;
use kache_core::event::{Event, Outcome as EventOutcome};
use kache_core::key::EntryKey;
use kache_service::setup::{Level, block_on};
use kache_service::sync;
use kache_service::transfer::Attested;
use kache_store::Store;
use serde_json::json;

use crate::cli::transfers::{self, Meter};
use crate::error::CliError;
use crate::ui::{Style, Ui};

#[derive(Default)]
pub struct Attestation {
    signed: usize,
    already: usize,
    absent: usize,
    /// Units whose published result isn't what was made here, and in what it differs.
    pub different: Vec<(String, EntryKey, String)>,
}

/// The remotes in which this machine may sign.
///
/// # Errors
/// Why there is none.
pub async fn open(settings: &Settings, store: &Arc<Store>) -> Result<Vec<Level>, CliError> {
    let mut levels = transfers::open(settings, store).await?;
    levels.retain(|level| level.transfer.can_sign());
    if levels.is_empty() {
        return Err(CliError::usage("there is no key to sign with").hint(
            "`cache.remote.signing_key` (KACHE_S3_SIGNING_KEY) names one: `openssl genpkey -algorithm ed25519`",
        ));
    }
    let why = levels.iter().find_map(|level| level.remote.why_read_only());
    levels.retain(|level| level.remote.why_read_only().is_none());
    match why.filter(|_| levels.is_empty()) {
        Some(why) => Err(CliError::usage(format!("nothing is signed: {why}"))),
        None => Ok(levels),
    }
}

/// Compares what these events say was compiled with what the remote has.
pub fn run(
    settings: &Settings,
    store: &Arc<Store>,
    events: &[Event],
    ui: &Ui,
) -> Result<Attestation, CliError> {
    let compiled = events.iter().filter(|event| {
        matches!(event.outcome, EventOutcome::Miss | EventOutcome::Dup)
            && event.reason.as_deref() != Some("verify-mismatch")
    });
    let named: Vec<(EntryKey, String)> = compiled
        .filter_map(|event| {
            Some((event.entry_key?, format!("{} {}", event.crate_name, event.package_version)))
        })
        .collect();
    block_on(async {
        let keys: Vec<EntryKey> = named.iter().map(|(key, _)| *key).collect();
        let concurrency = usize::try_from(*settings.s3_concurrency).unwrap_or(16);
        let mut attestation = Attestation::default();
        for Level { transfer, remote } in open(settings, store).await? {
            let mut meter = Meter::new(ui, "comparing", keys.len());
            let ended = sync::attest(&transfer, keys.clone(), concurrency, |_| meter.step(0)).await;
            meter.end();
            for (key, result) in ended {
                match result.transpose() {
                    Ok(Some(Attested::Signed)) => attestation.signed += 1,
                    Ok(Some(Attested::Already)) => attestation.already += 1,
                    Ok(Some(Attested::Absent) | None) => attestation.absent += 1,
                    Ok(Some(Attested::Differs(found))) => {
                        let name = named.iter().find(|(one, _)| *one == key).map(|(_, name)| name.clone());
                        attestation.different.push((name.unwrap_or_default(), key, found.join("; ")));
                    }
                    Err(error) => {
                        return Err(transfers::failure("not everything could be signed", &error, &remote));
                    }
                }
            }
        }
        Ok(attestation)
    })?
}

impl Attestation {
    pub fn text(&self, ui: &Ui) -> String {
        let Self { signed, already, absent, different } = self;
        let mut text = format!(
            "Signed {signed} results in the remote that are the same here; {already} had this signature, {absent} aren't there.\n"
        );
        if !different.is_empty() {
            let what =
                format!("{} in the remote are not what was made here and stay unsigned:", different.len());
            let _ = writeln!(text, "{}", ui.out(Style::Bad, &what));
        }
        for (name, key, detail) in different {
            let _ = writeln!(text, "  {name} ({}): {detail}", key.0.short());
        }
        text
    }

    pub fn json(&self) -> serde_json::Value {
        let one = |(name, key, detail): &(String, EntryKey, String)| json!({ "unit": name, "key": key, "detail": detail });
        json!({
            "signed": self.signed,
            "already": self.already,
            "absent": self.absent,
            "different": self.different.iter().map(one).collect::<Vec<_>>(),
        })
    }
}
