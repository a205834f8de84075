//! The stories of `../e2e` once more, in Cargo's layout with a directory for each unit.

#[path = "../e2e/stories.rs"]
mod stories;

use stories::*;
