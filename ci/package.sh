#!/bin/sh
# Packs a built program for a release: kache-TARGET.tar.gz with the program, licence, manual pages and completions, and a
# bill of materials beside it.
#
#   ci/package.sh TARGET PROGRAM DIR
#
# The program packs itself where this machine can run it; for another machine HOST_KACHE names one that makes the pages.
set -eu
cd "$(dirname "$0")/.."
target=$1 program=$2 dir=$3
host=${HOST_KACHE:-$program}

mkdir -p "$dir"
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
cp "$program" "$staged/kache"
cp LICENSE README.md CHANGELOG.md "$staged"
"$host" man --output "$staged/man1" 2>/dev/null
mkdir "$staged/completions"
for shell in bash zsh fish; do "$host" completions $shell >"$staged/completions/kache.$shell"; done
chmod -R u=rwX,go=rX "$staged"

# The same files make the same archive, whoever packs them and when.
if tar --version 2>/dev/null | grep -q GNU; then
    (cd "$staged" && tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - -- *) | gzip -n9 >"$dir/kache-$target.tar.gz"
else
    (cd "$staged" && tar -cf - -- *) | gzip -n9 >"$dir/kache-$target.tar.gz"
fi
python3 ci/sbom.py "$target" >"$dir/kache-$target.cdx.json"
