#!/bin/sh
# Publishes the crates that the program consists of; the program's is `kache-build`.
#
#   ci/publish.sh REPOSITORY publish              publishes
#   ci/publish.sh REPOSITORY publish --dry-run    packs and builds each crate as a registry has it, and sends nothing
#   ci/publish.sh REPOSITORY package --no-verify  packs only
#
# REPOSITORY is the address that the crates name as theirs: `cargo binstall` finds the releases there. More options of
# the Cargo command may follow. Works on a copy of the last commit.
set -eu
cd "$(dirname "$0")/.."
repository=$1 command=$2
shift 2

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git archive HEAD | tar -xf - -C "$copy"
for manifest in "$copy"/crates/*/Cargo.toml; do
    awk -v line="repository = \"$repository\"" '{ print } /^license.workspace/ { print line }' "$manifest" >"$manifest.new"
    mv "$manifest.new" "$manifest"
done
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/publish}
export CARGO_TARGET_DIR
cd "$copy" && cargo "$command" --workspace --exclude kache-testkit --locked "$@"
