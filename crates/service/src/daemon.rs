//! The daemon: makes the remote invisible to builds.

pub mod health;
pub mod server;
pub mod upkeep;
