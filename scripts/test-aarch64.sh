#!/usr/bin/env bash
# The kernels' tests as aarch64 runs them: cross-compiled, and run by an emulator unless this machine is one.
#
#   test-aarch64.sh            builds and tests; ends with cargo's closing line
#   test-aarch64.sh install    installs what it needs (root, Debian or Ubuntu; a minute): a linker, the C library,
#                              qemu-user, and Rust's standard library for the target
#
# Emulation says that results are right, not how fast they are. Features are tested as the emulated CPU has them:
# QEMU_CPU=cortex-a53 is one without dot products.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$ROOT"

TRIPLE=aarch64-unknown-linux-gnu
if [ "${1:-}" = install ]; then
  have qemu-aarch64 && have aarch64-linux-gnu-gcc ||
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove \
      qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross >&2
  have rustup || die "rustup is needed for Rust's standard library of $TRIPLE"
  rustup target add "$TRIPLE"
  exit
fi

if [ "$(uname -m)" != aarch64 ]; then
  for tool in qemu-aarch64 aarch64-linux-gnu-gcc; do
    have "$tool" || die "$tool is missing: run $0 install"
  done
  [ -d "$(rustc --print sysroot)/lib/rustlib/$TRIPLE/lib" ] || die "Rust lacks $TRIPLE: run $0 install"
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
fi
cargo test -p proximadb-kernels --lib --target "$TRIPLE" "$@"
