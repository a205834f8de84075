# Shortcuts for development; `just` alone lists them. Everything here is one plain command that works without just.

_default:
    @just --list

# What CI does
ci:
    .ci/run

# Unit and end-to-end tests
test *ARGS:
    cargo nextest run --workspace {{ARGS}}

# House rules only
tidy:
    cargo test -p kache-testkit --test tidy

# Formatting and lints, corrected where that can be done
fix:
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt

# Install this checkout's kache for the user
install:
    cargo install --path crates/app --locked

# The documentation of the crates
doc:
    cargo doc --workspace --no-deps --document-private-items --open
