#!/usr/bin/env bash
# The kernels' tests as aarch64 runs them: cross-compiled, and run by an emulator unless this machine is one.
#
#   test-aarch64.sh            builds and tests; ends with cargo's closing line
#   test-aarch64.sh ready      is everything here that this takes?
#   test-aarch64.sh install    installs it (root, Debian or Ubuntu): qemu-user, and Rust's standard library for
#                              the target, whose C library and linker come with Rust
#
# Emulation says that results are right, not how fast they are. Features are tested as the emulated CPU has them:
# QEMU_CPU=cortex-a53 is one without dot products.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$ROOT"

# Linked without a C compiler, and statically: the emulator needs nothing of the target's system.
TRIPLE=aarch64-unknown-linux-musl

ready() {
  [ -d "$(rustc --print sysroot)/lib/rustlib/$TRIPLE/lib" ] || { say "Rust lacks $TRIPLE"; return 1; }
  [ "$(uname -m)" = aarch64 ] || have qemu-aarch64 || { say "qemu-aarch64 is missing"; return 1; }
}

case ${1:-} in
  ready) ready; exit ;;
  install)
    have qemu-aarch64 || [ "$(uname -m)" = aarch64 ] ||
      DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove qemu-user >&2
    have rustup || die "rustup is needed for Rust's standard library of $TRIPLE"
    rustup target add "$TRIPLE"
    exit
    ;;
esac

ready || die "run $0 install"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
[ "$(uname -m)" = aarch64 ] || export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=qemu-aarch64
cargo test -p proximadb-kernels --lib --target "$TRIPLE" "$@"
