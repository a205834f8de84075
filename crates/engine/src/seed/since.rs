//! Whether what a unit was compiled from is still what it was. A unit is recorded later than it is made, and what is
//! recorded says what its files look like *now*: that must be what they looked like then.

use std::path::Path;

use kache_core::cargo::layout::INVOKED;
use kache_core::entry::Evidence;
use kache_core::entry_key::input_field;
use kache_core::invocation::Env;
use kache_core::key::{Field, field};
use kache_core::plan::is_canonical;
use kache_core::record::Input;
use kache_core::seed_unit::{Made, SeedUnit};
use kache_core::seeding::Unseeded;

use super::fingerprints::Fingerprint;
use crate::inputs::Observer;
use crate::times::mtime_ns;
use crate::toolchain::find_program;

/// Each file, folder and link that the compile read must be what its key says.
pub fn compiled(observer: &Observer<'_>, evidence: &Evidence) -> Result<(), Unseeded> {
    for input in &evidence.record.inputs {
        if matches!(input, Input::Env(_) | Input::MacroEnv(_) | Input::PortableMacroEnv(_)) {
            continue;
        }
        let field = input_field(input);
        let then = Field::value_of(&evidence.entry_fields, &field);
        let now = observer.observe(input).map(|now| now.to_string());
        if then.is_none() || then != now.as_deref() {
            return Err(Unseeded::Stale(format!("{field} changed since")));
        }
    }
    Ok(())
}

/// The linker, as an input, where a flag names one.
pub fn named_linker(
    observer: &Observer<'_>,
    env: &Env,
    evidence: &Evidence,
) -> Result<Option<(Input, String)>, Unseeded> {
    let value = |name| Field::value_of(&evidence.unit_fields, name);
    let Some(linker) = value("flag -C linker") else { return Ok(None) };
    let path = find_program(env, "/", linker);
    let input = path.as_deref().and_then(Path::to_str).map(|path| Input::File(path.to_owned()));
    let changed = || Unseeded::Stale(format!("the linker {linker} changed since"));
    let input = input.ok_or_else(changed)?;
    let now = observer.observe(&input).map(|now| now.to_string());
    match (now, value(field::LINKER)) {
        (Some(now), Some(then)) if now == then => Ok(Some((input, now))),
        (Some(now), None) => Ok(Some((input, now))),
        _ => Err(changed()),
    }
}

/// Whether what is on record about a unit still describes it.
pub fn is_unchanged(known: &SeedUnit, fingerprint: &Fingerprint, profile_dir: &Path) -> bool {
    let fingerprint_dir = profile_dir.join(known.dir.fingerprint());
    let same_hash = known.hash == fingerprint.hash && known.name == fingerprint.name;
    same_hash
        && match &known.made {
            Made::Compile { .. } => known.files.iter().all(|file| {
                !file.name.starts_with("dep-")
                    || mtime_ns(&fingerprint_dir.join(&file.name)) == Some(file.mtime_ns)
            }),
            Made::Run { output_ns, invoked_ns, .. } => {
                // The second one tells one run from another. The first one is set back where that is of no consequence
                // to Cargo: see `crate::placement`.
                let output = mtime_ns(&profile_dir.join(known.dir.stdout()));
                let is_set_back = output.is_some_and(|ns| is_canonical(ns.div_euclid(1_000_000_000)));
                (output == Some(*output_ns) || is_set_back)
                    && mtime_ns(&profile_dir.join(known.dir.run()).join(INVOKED)) == Some(*invoked_ns)
            }
        }
}
