//! The `kache` binary: decides whether it was called as a wrapper or as a command line, and nothing else.

mod settings;

fn main() {
    let _ = settings::load(None);
}
