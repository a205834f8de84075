//! House rules as tests: what a reviewer would otherwise have to notice. Reads the repository's files as text; knows
//! nothing about what the code does.
//!
//! Every rule collects all its violations, so one run shows everything that is wrong. Exemptions are listed in the
//! rule's module with the figure that holds today and may only shrink.

mod graph;
mod lexer;
mod packages;
mod repository;
mod sizes;
mod text;

/// Fails with every violation of a rule.
#[track_caller]
fn none(rule: &str, mut violations: Vec<String>) {
    violations.sort();
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}
