#!/usr/bin/env bash
# What action.yml does beside restoring and saving a directory. `start` before the build, `end` after it.
#
# Inputs come as INPUT_*; the rest is what GitHub sets for every job.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Whether this job may change what other jobs build with: never a pull request, else the branch that was named.
may_write() {
    case ${GITHUB_EVENT_NAME:-} in
        pull_request*) return 1 ;;
    esac
    [ "${INPUT_SAVE:-}" = always ] || [ "${GITHUB_REF:-}" = "refs/heads/${INPUT_SAVE:-main}" ]
}

start() {
    if ! command -v kache >/dev/null; then
        local bin=${RUNNER_TEMP:?}/kache-bin
        INSTALL_KACHE_VERSION=${INPUT_VERSION:-} INSTALL_KACHE_DIR=$bin \
            INSTALL_KACHE_FROM=${INSTALL_KACHE_FROM:-${GITHUB_SERVER_URL:-}/${GITHUB_ACTION_REPOSITORY:-}/releases} \
            sh "$here/install.sh"
        echo "$bin" >>"$GITHUB_PATH"
        PATH=$bin:$PATH
    fi
    {
        echo "RUSTC_WRAPPER=$(command -v kache)"
        echo "CARGO_INCREMENTAL=0"
        echo "KACHE_MAX_SIZE=${INPUT_MAX_SIZE:-5GiB}"
        if [ -n "${INPUT_BUCKET:-}" ]; then
            echo "KACHE_S3_BUCKET=$INPUT_BUCKET"
        else
            echo "KACHE_CACHE_DIR=${INPUT_STORE:?}"
            # A store that comes and goes with the job needs nobody in the background.
            echo "KACHE_DAEMON=0"
        fi
    } >>"$GITHUB_ENV"
    if may_write; then echo "save=true"; else echo "save=false"; fi >>"$GITHUB_OUTPUT"
    if [ -n "${INPUT_BUCKET:-}" ] && [ -f Cargo.lock ]; then
        # Without a bucket that answers, the build compiles.
        KACHE_S3_BUCKET=$INPUT_BUCKET kache sync --pull || echo "::warning::nothing was pulled from the bucket"
        cargo fetch --locked || true
    fi
}

end() {
    kache report --job --format github >>"$GITHUB_STEP_SUMMARY"
    kache report --job --format json --output "${RUNNER_TEMP:?}/kache.json"
    echo "report=$RUNNER_TEMP/kache.json" >>"$GITHUB_OUTPUT"
    if ! may_write; then
        echo "save=false" >>"$GITHUB_OUTPUT"
    elif [ -n "${KACHE_S3_BUCKET:-}" ]; then
        echo "save=false" >>"$GITHUB_OUTPUT"
        kache sync --push && kache save-manifest
    else
        echo "save=true" >>"$GITHUB_OUTPUT"
        kache gc --to-save --max-age "${INPUT_MAX_AGE:-14d}"
    fi
}

case ${1:-} in
    start | end) "$1" ;;
    *) echo "usage: action.sh start|end" >&2 && exit 2 ;;
esac
