//! What Cargo is and what it calls things, for the versions from 1.91 to 1.101.
//!
//! Everything that depends on a version of Cargo is decided here, from paths and texts; nothing is read.

pub mod layout;
