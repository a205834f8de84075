//! Test support: sealed environments, small projects, the real Cargo with and without a wrapper, an oracle that
//! compares the two, a scriptable compiler. Knows the journal's published form, none of the cache's code.
//!
//! Everything here panics with a message that says what was expected: it is only ever used by tests.
//!
//! ```no_run
//! use kache_testkit::Sandbox;
//!
//! let sandbox = Sandbox::new("/path/to/kache");
//! let one = sandbox.project("one", &[
//!     ("Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
//!     ("src/main.rs", "fn main() { println!(\"hello\"); }\n"),
//! ]);
//! one.cargo("run").same(); // with the wrapper, then without it at the same path; both must agree
//! let two = one.checkout("somewhere/else");
//! let run = two.cargo("run").same();
//! assert_eq!(run.tally().misses, 0);
//! two.nothing_to_do("build");
//! ```

mod audit;
mod aws;
mod azure;
mod cargo;
mod fake;
mod files;
mod github;
mod google;
mod journal;
mod layout;
mod objects;
mod oracle;
mod project;
mod s3;
mod sandbox;
mod server;
mod toolchain;
mod tunnel;
mod volume;
mod web;

pub use audit::{Audit, Call};
pub use aws::AwsServices;
pub use azure::Azure;
pub use cargo::{Cargo, Group, Run, Running};
pub use fake::FakeRustc;
pub use files::{Artifacts, copy_tree, remove_tree, settle, tree, wait_for, walk};
pub use github::GitHub;
pub use google::Google;
pub use journal::{Event, Mark, Tally, read_journal};
pub use layout::Layout;
pub use objects::Objects;
pub use project::Project;
pub use s3::S3;
pub use sandbox::Sandbox;
pub use server::{Mischief, Seen, Server};
pub use toolchain::{Toolchain, toolchain};
pub use tunnel::{HOST as TUNNELLED_HOST, Proxy, authority};
pub use volume::{FileSystem, Volume};
pub use web::{Manners, Web};
