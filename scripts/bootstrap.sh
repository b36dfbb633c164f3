#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu lacks. Does nothing, and says nothing, where nothing is missing.
#
#   bootstrap.sh demo     to build the slim set: a C compiler and Rust
#   bootstrap.sh build    to build everything: also C++ and Perl (librdkafka, OpenSSL)
#   bootstrap.sh check    to check it: also clippy and rustfmt
#   bootstrap.sh test     to run every test: also Java and Maven (a real Kafka and registry), Python (real clients),
#                         PoCL (OpenCL on the processor)
#
# As root it installs system packages with apt. Otherwise it prints the one command that does, and ends with 1.
# Rust is taken from where it is found first: the PATH, rustup's home, rustup's installer (https://rustup.rs, into
# the home folder, no root needed), the distribution's packages if they are new enough.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"

LEVEL=${1:-build}
case $LEVEL in
  demo | build | check | test) ;;
  *) echo "usage: $0 demo|build|check|test" >&2; exit 2 ;;
esac

PACKAGES=() # what apt has to install
REASONS=()
need() { # PACKAGE REASON
  PACKAGES+=("$1")
  REASONS+=("$1 ($2)")
}

# ---------------------------------------------------------------- apt

apt_fresh() { # package lists, fetched once and only if needed
  [ -n "${APT_UPDATED:-}" ] && return
  if [ "$(id -u)" = 0 ]; then
    say "reading the distribution's package lists"
    apt-get update -qq >&2
  fi
  APT_UPDATED=1
}

candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([0-9][^ ]*\)$/\1/p'; }

install_packages() {
  [ ${#PACKAGES[@]} -gt 0 ] || return 0
  have apt-get || die "please install: $(join "${REASONS[@]}"). This script knows Debian and Ubuntu only"
  if [ "$(id -u)" != 0 ]; then
    say "missing: $(join "${REASONS[@]}")"
    say "run this once, then try again:"
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${PACKAGES[*]}" >&2
    exit 1
  fi
  apt_fresh
  say "installing $(join "${REASONS[@]}")"
  # --no-remove: never take away what somebody else uses.
  local log
  log=$(mktemp)
  if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove "${PACKAGES[@]}" \
    >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    die "apt could not install ${PACKAGES[*]}; the whole output is in $log"
  fi
  rm -f "$log"
  PACKAGES=() REASONS=()
}

join() {
  local text=$1
  shift
  printf '%s' "$text"
  [ $# -eq 0 ] || printf ', %s' "$@"
}

# ---------------------------------------------------------------- what is missing

{ have cc && have ld; } || need gcc "C compiler"
[ -e /usr/include/stdio.h ] || need libc6-dev "C headers"
have curl || need curl "downloads"
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || need ca-certificates "HTTPS"
if [ "$LEVEL" != demo ]; then
  have c++ || need g++ "C++ compiler, for librdkafka"
  have make || need make "librdkafka and OpenSSL"
  # perl-base, which is always there, lacks modules that OpenSSL's configuration loads.
  perl -MFindBin -MIPC::Cmd -MFile::Compare -MTime::Piece -e1 2>/dev/null || need perl "OpenSSL's configuration"
fi
if [ "$LEVEL" = test ]; then
  if [ "$(java_version)" -lt 17 ]; then
    apt_fresh
    for jre in openjdk-17-jre-headless openjdk-21-jre-headless openjdk-25-jre-headless; do
      [ -z "$(candidate $jre)" ] || break
    done
    need "$jre" "Kafka and schema registry"
  fi
  have mvn || need maven "downloads Kafka and the registry"
  have python3 || need python3 "client and reader checks"
  # A driver of a real device does as well. The loader is only recommended by drivers' packages, so it is named.
  compgen -G '/etc/OpenCL/vendors/*.icd' >/dev/null || need pocl-opencl-icd "OpenCL on the processor"
  /sbin/ldconfig -p | grep -F libOpenCL.so.1 >/dev/null || need ocl-icd-libopencl1 "OpenCL's loader"
  # ensurepip is what a minimal Debian leaves out of its venv module.
  { have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null; } || need python3-venv "client and reader checks"
fi
install_packages

# ---------------------------------------------------------------- Rust

rust_fits() { # cargo and rustc here, in this folder's toolchain, new enough
  have cargo && have rustc || return 1
  local version
  version=$(cd "$ROOT" && RUSTUP_AUTO_INSTALL=0 rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
  at_least "${version:-0}" "$MSRV"
}

find_again() { # what has just been installed may need another PATH
  # shellcheck source=scripts/env.sh
  . "$ROOT/scripts/env.sh"
  hash -r
}

# The pinned toolchain by an rustup that is already here.
rust_by_rustup() {
  have rustup || return 1
  local channel
  channel=$(sed -n 's/^channel = "\(.*\)"$/\1/p' "$ROOT/rust-toolchain.toml")
  say "installing Rust $channel with rustup"
  (cd "$ROOT" && rustup toolchain install "$channel" --profile minimal -c clippy -c rustfmt --no-self-update >&2)
}

rust_by_installer() {
  local installer
  installer=$(mktemp)
  if ! curl --proto '=https' --tlsv1.2 -sSf --connect-timeout 10 --max-time 60 -o "$installer" https://sh.rustup.rs 2>/dev/null; then
    rm -f "$installer"
    say "rustup's installer (https://rustup.rs) cannot be reached from here"
    return 1
  fi
  say "installing rustup into ${CARGO_HOME:-$HOME/.cargo} (from https://rustup.rs)"
  local status=0
  # Nothing in the user's shell files is changed: these scripts find it where it is.
  sh "$installer" -y -q --no-modify-path --profile minimal --default-toolchain none >&2 || status=$?
  rm -f "$installer"
  [ $status = 0 ] || return 1
  find_again
  rust_by_rustup
}

# The distribution's newest compiler. Stable releases carry a newer one beside their own for browsers: Debian as
# rustc-web, Ubuntu as rustc-1.NN.
rust_by_apt() {
  have apt-get || return 1
  apt_fresh
  local suffix version
  for suffix in "" -web $(apt-cache search --names-only '^rustc-1\.[0-9]+$' | sed 's/^rustc\(-[^ ]*\).*/\1/' | sort -rV); do
    version=$(candidate "rustc$suffix")
    at_least "${version:-0}" "$MSRV" || continue
    [ -n "$(candidate "cargo$suffix")" ] || continue
    need "rustc$suffix" "Rust ${version%%[+~-]*}"
    need "cargo$suffix" "Rust's build tool"
    install_packages
    find_again
    return 0
  done
  return 1
}

if ! rust_fits; then
  rust_by_rustup || rust_by_installer || rust_by_apt ||
    die "Rust $MSRV or newer is needed. Install it from https://rustup.rs, then try again"
  rust_fits || die "Rust is installed but $(command -v rustc) is older than $MSRV; please put the newer one first in PATH"
fi

# Clippy and rustfmt from where the compiler came from.
rust_tools_fit() { (cd "$ROOT" && cargo clippy --version && cargo fmt --version) >/dev/null 2>&1; }
rust_tools() {
  say "clippy and rustfmt are missing"
  if have rustup; then
    (cd "$ROOT" && rustup component add clippy rustfmt >&2)
  elif have dpkg-query; then
    local suffix tool
    suffix=$(dpkg-query -S "$(readlink -f "$(command -v rustc)")" 2>/dev/null | sed -n 's/^rustc\(-[^:]*\)\{0,1\}:.*/\1/p')
    apt_fresh
    for tool in "rustfmt$suffix" "rust$suffix-clippy" "rust-clippy$suffix"; do # the names follow two fashions
      [ -z "$(candidate "$tool")" ] || need "$tool" "make check"
    done
    install_packages
  fi
}
if [ "$LEVEL" = check ] && ! rust_tools_fit; then
  rust_tools
  rust_tools_fit || die "cargo clippy and cargo fmt are needed; with rustup: rustup component add clippy rustfmt"
fi

# ---------------------------------------------------------------- Python environment for the checks

if [ "$LEVEL" = test ] && [ -e "$ROOT/scripts/requirements-test.txt" ]; then
  venv=$CACHE/venv
  # Made anew when the requirements or the interpreter change.
  stamp=$({ cat "$ROOT/scripts/requirements-test.txt"; python3 --version; } | cksum)
  if [ "$(cat "$venv/proximadb-stamp" 2>/dev/null)" != "$stamp" ]; then
    say "installing Python packages for the checks into $venv"
    mkdir -p "$CACHE"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$ROOT/scripts/requirements-test.txt" >&2
    echo "$stamp" >"$venv/proximadb-stamp"
  fi
fi
