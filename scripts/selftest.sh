#!/usr/bin/env bash
# Tests of the scripts beside this file, on trees made up for them. A second or two; no compiler.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"

PASSED=0 FAILED=0
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

claim() { # NAME COMMAND…: the command succeeds
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    PASSED=$((PASSED + 1))
  else
    FAILED=$((FAILED + 1))
    echo "FAIL: $name"
    [ -z "$output" ] || printf '%s\n' "$output" | sed 's/^/    /'
  fi
}
same() { [ "$1" = "$2" ] || { printf 'expected: %s\ngot:      %s\n' "$2" "$1"; return 1; }; }
contains() { grep -qF -- "$2" <<<"$1" || { printf 'expected to contain: %s\ngot:\n%s\n' "$2" "$1"; return 1; }; }
lacks() { ! contains "$@" >/dev/null || { printf 'expected to lack: %s\ngot:\n%s\n' "$2" "$1"; return 1; }; }

# A tree with our scripts in it, and a cargo that says what the test wants.
tree() {
  rm -rf "$WORK/tree"
  mkdir -p "$WORK/tree/scripts" "$WORK/tree/docs" "$WORK/tree/home/bin" "$WORK/tree/src"
  cp "$ROOT"/scripts/*.sh "$WORK/tree/scripts/"
  cp "$ROOT/Cargo.toml" "$WORK/tree/"
  cp "$ROOT/docs/ARCHITECTURE.md" "$WORK/tree/docs/"
  git -C "$WORK/tree" init -q
}
fake_cargo() {
  printf '#!/usr/bin/env bash\n%s\n' "$1" >"$WORK/tree/home/bin/cargo"
  chmod +x "$WORK/tree/home/bin/cargo"
}
run_tests() { # in the tree, without running these tests again
  printf '#!/bin/sh\necho "2 passed, 0 failed"\n' >"$WORK/tree/scripts/selftest.sh"
  CARGO_HOME=$WORK/tree/home CARGO_TARGET_DIR=$WORK/tree/target "$WORK/tree/scripts/test.sh" fast 2>/dev/null
}
closing() { tail -n 1 <<<"$1"; }

# ---------------------------------------------------------------- test.sh: the closing line

tree
fake_cargo 'echo "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s"
echo "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s"'
output=$(run_tests)
status=$?
claim "passes are summed over binaries and runners" same "$(closing "$output")" "14 passed, 0 failed, 1 skipped"
claim "all passed ends with 0" same $status 0

fake_cargo 'echo "test a::b ... FAILED"
echo "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out"; exit 101'
output=$(run_tests)
status=$?
claim "failures are summed" same "$(closing "$output")" "7 passed, 2 failed, 0 skipped"
claim "a failure ends with another status" same $status 1
claim "failed tests are named at the end" contains "$output" "test a::b ... FAILED"

fake_cargo 'echo "error: could not compile"; exit 101'
output=$(run_tests)
claim "a runner that cannot be built counts as failed" same "$(closing "$output")" "2 passed, 1 failed, 0 skipped"

fake_cargo 'echo "test result: ok. 5 passed; 0 failed; 0 ignored"; kill -9 $$'
output=$(run_tests)
claim "a runner that dies counts as failed" same "$(closing "$output")" "7 passed, 1 failed, 0 skipped"

fake_cargo 'exit 0'
output=$(run_tests)
claim "a runner without a closing line counts as failed" same "$(closing "$output")" "2 passed, 1 failed, 0 skipped"

fake_cargo 'echo "SKIP: a::b needs kafka: none"; echo "SKIP: a::b needs registry: none"
echo "test result: ok. 5 passed; 0 failed; 0 ignored"'
output=$(run_tests)
claim "a test that skips itself has not passed" same "$(closing "$output")" "6 passed, 0 failed, 1 skipped"

# ---------------------------------------------------------------- tidy.sh: one break each

tidy() { (cd "$WORK/tree" && scripts/tidy.sh 2>&1); }

tree
mkdir -p "$WORK/tree/src/wal" "$WORK/tree/src/store"
printf 'use crate::types::Lsn;\n#[cfg(test)]\nmod tests {\n    use crate::store::Segment;\n}\n' >"$WORK/tree/src/wal/mod.rs"
printf 'pub mod wal;\n' >"$WORK/tree/src/lib.rs"
claim "allowed imports and tests are left alone" tidy

printf 'use crate::{\n    types::{Lsn, RowBatch},\n    store::Segment,\n};\n' >"$WORK/tree/src/wal/mod.rs"
claim "a stage that imports another is found in a group" contains "$(tidy)" "src/wal/mod.rs:1: src/wal may not import src/store"
claim "names inside a group's group are not folders" lacks "$(tidy)" "RowBatch"
printf '// see crate::store\nfn f() -> crate::store::Segment {}\n' >"$WORK/tree/src/wal/mod.rs"
claim "a path inside code counts, a comment does not" same "$(tidy | grep -c 'may not import')" 1
printf 'x' >"$WORK/tree/src/surprise.rs"
claim "a folder without a row is named" contains "$(tidy)" "src/surprise has no row"
claim "a file that no module names is found" contains "$(tidy)" "src/surprise.rs:1:   ← no module names it"
rm "$WORK/tree/src/surprise.rs"

printf '// %0120d\n' 7 >"$WORK/tree/src/wal/mod.rs"
claim "a long line is found" contains "$(tidy)" "longer than 120"
printf 'fn f() { to''do!() }\n' >"$WORK/tree/src/wal/mod.rs"
claim "unfinished code is found" contains "$(tidy)" "unfinished"
yes '//' | head -n 701 >"$WORK/tree/src/wal/mod.rs"
claim "a long file is found" contains "$(tidy)" "over 700 lines"
: >"$WORK/tree/src/wal/mod.rs"
printf 'see /ro''ot/x\n' >"$WORK/tree/docs/X.md"
git -C "$WORK/tree" add -A
claim "a path of one machine is found" contains "$(tidy)" "docs/X.md:1"
claim "and ends with another status" same "$(tidy >/dev/null; echo $?)" 1

# ---------------------------------------------------------------- bootstrap.sh

claim "versions are compared as versions" at_least 1.100.0 1.95
claim "an older version is older" same "$(at_least 1.63.0 1.95 && echo fits)" ""
# A machine whose rustc is old, and an installer that brings a new one into a home that was empty.
tree
cp "$ROOT/rust-toolchain.toml" "$WORK/tree/"
mkdir -p "$WORK/tree/old"
printf '#!/bin/sh\necho "rustc 1.63.0 (old)"\n' | tee "$WORK/tree/old/rustc" >"$WORK/tree/old/cargo"
cat >"$WORK/tree/old/curl" <<'FAKE'
#!/bin/bash
# As rustup's installer, but that it makes its files out of thin air.
while [ "$1" != -o ]; do shift; done
cat >"$2" <<'INSTALLER'
mkdir -p "$CARGO_HOME/bin"
printf '#!/bin/sh\necho "$@" >"$CARGO_HOME/asked"\nprintf "#!/bin/sh\necho rustc 1.95.0\n" >"$CARGO_HOME/bin/rustc"\n' >"$CARGO_HOME/bin/rustup"
printf '#!/bin/sh\n' >"$CARGO_HOME/bin/cargo"
printf '#!/bin/sh\nexit 1\n' >"$CARGO_HOME/bin/rustc"
chmod +x "$CARGO_HOME"/bin/*
INSTALLER
FAKE
chmod +x "$WORK"/tree/old/*
install_rust() { env CARGO_HOME="$WORK/tree/fresh" PATH="$WORK/tree/old:/usr/bin:/bin" "$WORK/tree/scripts/bootstrap.sh" demo; }
claim "rustup's installer is used where rustc is too old" install_rust
claim "and is asked for the pinned toolchain" contains "$(cat "$WORK/tree/fresh/asked" 2>&1)" "toolchain install $(sed -n 's/^channel = "\(.*\)"$/\1/p' "$ROOT/rust-toolchain.toml")"
claim "nothing is said when nothing is missing" same "$(install_rust 2>&1)" ""
claim "a wrong level is refused" same "$("$ROOT/scripts/bootstrap.sh" nonsense 2>/dev/null; echo $?)" 2

echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
