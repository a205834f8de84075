//! What there is to know about a unit when its compile has ended: plain data for whoever looks at the compile.

use kache_core::digest::Digest;
use kache_core::invocation::Invocation;
use kache_core::key::{Field, UnitKey};
use kache_core::paths::Roots;
use kache_core::unit::Unit;

use crate::placement::Standing;
use crate::toolchain::Toolchain;
use crate::world::TargetLayout;

/// What there is to know about a unit when its compile has ended.
pub struct Finished<'a> {
    pub call: &'a Invocation,
    pub unit: &'a Unit,
    /// Its key and the fields that made it.
    pub key: (UnitKey, &'a [Field]),
    /// Digests of the externs before the compile.
    pub externs: &'a [Option<Digest>],
    pub roots: &'a Roots,
    /// The target directory with symbolic links resolved, where that differs.
    pub real_target: Option<String>,
    pub toolchain: &'a Toolchain,
    pub standing: &'a Standing,
    /// Where the unit lies in the build directory.
    pub place: &'a TargetLayout,
}
