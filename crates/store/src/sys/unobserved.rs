//! Stands in for observation where the operating system or architecture has none.

use std::convert::Infallible;
use std::io;
use std::process::{Child, Command};

use super::observation::{Observation, Scope};

/// Never exists on this platform.
#[derive(Debug)]
pub struct Observer(Infallible);

impl Observer {
    /// Unreachable: there is no observer to finish.
    #[must_use]
    pub fn finish(self) -> Option<Observation> {
        match self.0 {}
    }
}

/// Whether this platform can observe at all: it can't.
#[must_use]
pub const fn can_observe() -> bool {
    false
}

/// Spawns `command`, unobserved.
pub fn spawn_observed(mut command: Command, _scope: Scope) -> io::Result<(Child, Option<Observer>)> {
    Ok((command.spawn()?, None))
}
