# shellcheck shell=bash
# shellcheck disable=SC2034 # used by the scripts that source this
# Sourced by the other scripts: where things are, and how to say what is done.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# What is installed for this project alone (Python environment, CI's build outputs) goes here.
CACHE=${PROXIMADB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/proximadb}
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
# rustup installs here without touching this shell's PATH. First, since a distribution's older cargo may be in /usr/bin.
if [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
  PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
else # where Ubuntu puts the compilers that are newer than its own
  for dir in /usr/lib/rust-1.*/bin; do [ ! -x "$dir/cargo" ] || PATH=$dir:$PATH; done
fi
export PATH
# The oldest compiler that builds us, as Cargo.toml says.
MSRV=$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' "$ROOT/Cargo.toml")

say() { echo "proximadb: $*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# at_least VERSION WANTED
at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

java_version() { # major version of the java in use, 0 where there is none
  local line
  line=$("${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1) || true
  echo "${line:-0}"
}
