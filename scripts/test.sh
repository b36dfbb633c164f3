#!/usr/bin/env bash
# Every test there is, one after the other, and one line that sums them up: "N passed, N failed, N skipped".
#
#   test.sh         all of them, with a real Kafka and schema registry
#   test.sh fast    what needs no broker: for daily work
#
# A runner that fails doesn't stop the others; the exit status and the last line tell. Logs are kept in
# test-logs/ of the target folder. Each test binary prints what it skips and why.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$ROOT" || exit 1

MODE=${1:-all}
case $MODE in
  all) export PROXIMADB_REQUIRE=${PROXIMADB_REQUIRE-kafka,opencl} ;;
  fast) export PROXIMADB_WITHOUT=kafka PROXIMADB_REQUIRE='' ;;
  *) echo "usage: $0 [all|fast]" >&2; exit 2 ;;
esac
LOGS=$TARGET/test-logs
rm -rf "$LOGS"
mkdir -p "$LOGS"
PASSED=0 FAILED=0 SKIPPED=0
SUMMARY=()

# count LOG: "passed failed skipped closing-lines", summed over the closing lines of cargo's runner and of our own scripts.
count() {
  awk '
    function add(word,   i) { for (i = 2; i <= NF; i++) if ($i ~ "^" word "[;,.]?$") return $(i - 1); return 0 }
    /^test result: / { n++; p += add("passed"); f += add("failed"); s += add("ignored") }
    # A test that found a service missing, said so and ended: the runner takes it for passed.
    /^SKIP: / && !skipped[$2]++ { s++; p-- }
    /^([A-Za-z_-]+: )?[0-9]+ passed, [0-9]+ failed/ { n++; p += add("passed"); f += add("failed"); s += add("skipped") }
    END { printf "%d %d %d %d\n", p, f, s, n }' "$1"
}

# runner NAME COMMAND…
runner() {
  local name=$1 log=$LOGS/$1.log status=0 started=$SECONDS passed failed skipped closed
  shift
  say "── $name"
  "$@" 2>&1 </dev/null | tee "$log" || status=${PIPESTATUS[0]}
  read -r passed failed skipped closed < <(count "$log")
  # A runner that could not be built, or died, has no failed test to show for it.
  if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
  # One that says nothing has tested nothing: a mistake in the runner, not a pass.
  if [ "$status" = 0 ] && [ "$closed" = 0 ]; then
    say "$name ended without a closing line: it ran no test"
    failed=1
  fi
  PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed)) SKIPPED=$((SKIPPED + skipped))
  SUMMARY+=("$(printf '%-24s %5d passed %4d failed %4d skipped %5d s' "$name" "$passed" "$failed" "$skipped" $((SECONDS - started)))")
}

# Segments that the store's own test writes, read by pyarrow and DuckDB: one test per file.
readers() {
  local files=$LOGS/viper file passed=0 failed=0
  PROXIMADB_VIPER_DIR=$files cargo test -q --workspace --lib files_for_other_readers || return 1
  for file in "$files"/*.parquet "$files"/*/*.parquet; do
    [ -e "$file" ] || continue
    if "$CACHE/venv/bin/python" tests/readers/check_viper.py "$file" >"$LOGS/viper.out" 2>&1; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
      echo "FAIL: $file"
      cat "$LOGS/viper.out"
    fi
  done
  [ $passed -gt 0 ] || { echo "FAIL: no Parquet file was written"; failed=1; }
  echo "readers: $passed passed, $failed failed"
  [ $failed = 0 ]
}

exists() { compgen -G "$1" >/dev/null; }

# Our own scripts first: they take a second, and everything below relies on them.
runner scripts scripts/selftest.sh
runner unit cargo test --workspace --lib --bins --no-fail-fast
# One binary per folder under tests/; black-box tests start the real program.
if exists 'tests/*.rs' || exists 'tests/*/main.rs'; then
  if [ "$MODE" = all ] && [ -x tests/services/kafka.sh ]; then
    # Fetched here, so that a slow download is not a test's timeout.
    for service in kafka schema-registry; do
      tests/services/$service.sh install || say "$service could not be installed"
    done
  fi
  runner integration cargo test --workspace --test '*' --no-fail-fast
fi
if [ "$MODE" = all ]; then
  runner doc cargo test --workspace --doc --no-fail-fast
  # The kernels of the other architecture, where an emulator is at hand.
  if scripts/test-aarch64.sh ready; then
    runner aarch64 scripts/test-aarch64.sh
  else
    say "aarch64: not tested; scripts/test-aarch64.sh install changes that"
  fi
  # What published clients and readers do with the program that was just tested.
  export PROXIMADB_BIN=$TARGET/debug/proximadb
  for check in tests/clients/*.py; do
    [ -e "$check" ] || continue
    [ -x "$PROXIMADB_BIN" ] || cargo build --workspace --bins --tests
    runner "$(basename "$check" .py)" "$CACHE/venv/bin/python" "$check"
  done
  [ ! -e tests/readers/check_viper.py ] || runner readers readers
fi

echo
printf '%s\n' "${SUMMARY[@]}"
if [ "$FAILED" != 0 ]; then
  echo
  grep -hE '^test .* \.\.\. FAILED$|^(FAIL|FAILED)[: ]' "$LOGS"/*.log 2>/dev/null | sort -u | head -n 50
fi
echo
echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
[ "$FAILED" = 0 ]
