# Sourced by every script: the project's directory, output functions, and the directory of builds.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SCRIPT=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
VENV=$ROOT/.venv
PY=$VENV/bin/python
# Builds use cargo's target directory; a relative CARGO_TARGET_DIR is relative to the caller, as for cargo.
case ${CARGO_TARGET_DIR:-} in
    "") TARGET=$ROOT/target ;;
    /*) TARGET=$CARGO_TARGET_DIR ;;
    *) TARGET=$PWD/$CARGO_TARGET_DIR ;;
esac
export CARGO_TARGET_DIR=$TARGET

# rustup installs cargo here; only login shells have it in their PATH.
cargo_bin=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
[ -d "$cargo_bin" ] && PATH=$PATH:$cargo_bin

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# usage: print the comment at the top of the running script.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$SCRIPT"; }

# help_only ARGUMENT...: if one of them asks for help, print the usage and end. Called before anything is built.
help_only() {
    local argument
    for argument in "$@"; do
        case $argument in -h | --help) usage; exit ;; esac
    done
}

# run WHAT COMMAND...: print one line about the action; print the command's output only if it fails.
run() {
    local what=$1 log
    shift
    say "$what"
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        die "$what: this failed: $*"
    fi
    rm -f "$log"
}

# requirements FILE WHAT: install the packages of FILE into .venv, unless this was done.
requirements() {
    local stamp
    stamp=$VENV/.$(basename "$1" .txt)
    ! cmp -s "$1" "$stamp" || return 0
    run "$2" "$PY" -m pip install --disable-pip-version-check -q -r "$1"
    cp "$1" "$stamp"
}
