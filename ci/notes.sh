#!/bin/sh
# The part of CHANGELOG.md that is about one version.
set -eu
cd "$(dirname "$0")/.."
awk -v version="$1" '/^## / { found = $2 == version; next } found' CHANGELOG.md | grep . ||
    { echo "notes.sh: CHANGELOG.md has nothing about $1" >&2 && exit 1; }
