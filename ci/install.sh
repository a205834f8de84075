#!/bin/sh
# Installs a released kache, after comparing the archive with the release's list of checksums.
#
#   sh install.sh                      the latest release, into ~/.local/bin
#   INSTALL_KACHE_VERSION=0.6.0 sh install.sh  that release
#
# INSTALL_KACHE_DIR: directory of the program. INSTALL_KACHE_FROM: address that releases are below; the copy of this script
# that is part of a release knows its own.
set -eu

releases=${INSTALL_KACHE_FROM:-@RELEASES@}
dir=${INSTALL_KACHE_DIR:-$HOME/.local/bin}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

case $releases in
    @*) fail "no address of releases is known: take install.sh from a release, or set INSTALL_KACHE_FROM" ;;
esac
command -v curl >/dev/null || fail "curl is not installed"

case $(uname -s)-$(uname -m) in
    Linux-x86_64) target=x86_64-unknown-linux-musl ;;
    Linux-aarch64 | Linux-arm64) target=aarch64-unknown-linux-musl ;;
    Darwin-arm64) target=aarch64-apple-darwin ;;
    Darwin-x86_64) target=x86_64-apple-darwin ;;
    *) fail "there is no program for $(uname -s) on $(uname -m): build it with cargo install" ;;
esac

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
fetch() { curl --proto '=https,file' --fail --silent --show-error --location --retry 3 --output "$2" "$1"; }

if [ -n "${INSTALL_KACHE_VERSION:-}" ]; then base=$releases/download/v$INSTALL_KACHE_VERSION; else base=$releases/latest/download; fi
archive=kache-$target.tar.gz
fetch "$base/$archive" "$temporary/$archive" || fail "$base/$archive can't be fetched"
fetch "$base/SHA256SUMS" "$temporary/SHA256SUMS" || fail "$base/SHA256SUMS can't be fetched"

expected=$(awk -v name="$archive" '$2 == name || $2 == "*" name { print $1 }' "$temporary/SHA256SUMS")
[ -n "$expected" ] || fail "SHA256SUMS doesn't name $archive"
if command -v sha256sum >/dev/null; then
    found=$(sha256sum "$temporary/$archive")
else
    found=$(shasum -a 256 "$temporary/$archive")
fi
found=${found%% *}
[ "$found" = "$expected" ] || fail "$archive is not what SHA256SUMS says ($found, not $expected); nothing was installed"

tar -xzf "$temporary/$archive" -C "$temporary" kache
mkdir -p "$dir"
# By rename, so that a build that uses it meets the old program or the new one.
cp "$temporary/kache" "$dir/.kache.new"
chmod 755 "$dir/.kache.new"
mv -f "$dir/.kache.new" "$dir/kache"
echo "Installed $("$dir/kache" --version) as $dir/kache." >&2
case :$PATH: in
    *:"$dir":*) ;;
    *) echo "$dir is not in PATH." >&2 ;;
esac
