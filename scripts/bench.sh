#!/usr/bin/env bash
# All figures of docs/benchmarks.md that are no build times: kernels, codecs and log by `cargo bench`, everything else
# by proximadb-loadtest against a release build. Modest sizes: some ten minutes. Ends with a table in Markdown.
#
#   bench.sh            everything
#   bench.sh micro [FILTER]   `cargo bench` alone
#   bench.sh load       the server alone
#   bench.sh kernels [FILTER]   the kernels beside numkong's (not part of everything: it is minutes of C to build)
#
# PROXIMADB_BENCH_DIR is where data lies while it is measured: it decides what "durable" costs (Cargo's target folder).
# BENCH_SCALE multiplies the numbers of rows (1).
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$ROOT"

WHAT=${1:-all}
case $WHAT in
  all | micro | load) shift || true ;;
  kernels) shift ;;
  *) echo "usage: $0 [all|micro [FILTER]|load|kernels [FILTER]]" >&2; exit 2 ;;
esac
SCALE=${BENCH_SCALE:-1}
export PROXIMADB_BENCH_DIR=${PROXIMADB_BENCH_DIR:-$TARGET/bench-data}
mkdir -p "$PROXIMADB_BENCH_DIR"
RESULTS=$TARGET/bench.jsonl
STARTED=()
FAILED=0

# shellcheck disable=SC2317 # called by the trap
finish() {
  local service
  for service in "${STARTED[@]}"; do "tests/services/$service.sh" stop >&2 || true; done
}
trap finish EXIT

rows() { awk "BEGIN { printf \"%d\", $1 * $SCALE }"; }

# load COMMAND…: one figure; one that fails doesn't stop the others.
load() {
  "$TARGET/release/proximadb-loadtest" "$@" >>"$RESULTS" || { say "$1 failed"; FAILED=1; }
}

echo "machine: $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores; load $(cut -d' ' -f1-3 /proc/loadavg); commit $(git rev-parse --short HEAD)"
if [ "$WHAT" = kernels ]; then
  # A workspace of its own keeps its own outputs: other features of the same crates would rebuild ours.
  exec cargo run --release --manifest-path crates/kernels/peers/Cargo.toml --target-dir "$TARGET/peers" -- "$@"
fi
if [ "$WHAT" != load ]; then
  # Not that of GPUs, which is `make bench-gpu`'s.
  cargo bench --workspace --bench avro_decode --bench distance --bench scan --bench wal_append -- "$@"
fi
if [ "$WHAT" != micro ]; then
  # One command, so that both share their dependencies.
  cargo build --release -p proximadb -p proximadb-loadtest --bins
  export PROXIMADB_BIN=${PROXIMADB_BIN:-$TARGET/release/proximadb}
  # The services' default stops the compiler of the JVM halfway, which starts sooner and runs slower.
  export KAFKA_JAVA_OPTS=${KAFKA_JAVA_OPTS:--Xms256m -Xmx1g -XX:+UseSerialGC}
  for service in kafka schema-registry; do
    "tests/services/$service.sh" status >/dev/null 2>&1 || STARTED+=("$service")
    endpoints=$("tests/services/$service.sh" start) || die "$service did not start"
    eval "$endpoints"
  done
  : >"$RESULTS"
  load ingest-kafka --dim 128 --records "$(rows 500000)"
  load ingest-kafka --dim 768 --records "$(rows 100000)"
  load freshness --dim 128 --calibrate "$(rows 300000)" --seconds 15
  load ingest-rest --dim 128 --rows "$(rows 200000)"
  load ingest-rest --dim 768 --rows "$(rows 40000)"
  load ingest-grpc --dim 128 --rows "$(rows 400000)"
  load ingest-grpc --dim 768 --rows "$(rows 100000)"
  load search
  load search --door grpc
  load startup --dim 128 --rows "$(rows 1000000)"
  echo
  "$TARGET/release/proximadb-loadtest" table <"$RESULTS"
  say "details in $RESULTS"
fi
echo "load after: $(cut -d' ' -f1-3 /proc/loadavg)"
exit $FAILED
