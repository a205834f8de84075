//! The random walks once more, in Cargo's layout with a directory for each unit.

#[path = "../walk/main.rs"]
mod walk;
