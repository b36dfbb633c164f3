#!/usr/bin/env bash
# The index beside hnswlib, faiss, usearch and hnsw_rs: one table, and a plot per data set. See docs/benchmarks.md.
#
#   bench-index.sh [OPTION…]      options of benches/index/run.py, such as --sets passages --engines ProximaDB,hnswlib
#
# DATA is the folder of passages.parquet and mnist.parquet, each beside its -queries.parquet; without it the
# repository's smaller set of passages is used, and MNIST left out. Data sets, exact answers, indexes and the
# libraries' Python environment are kept in the cache folder: a million vectors want 8 GB there.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$ROOT"

PLACE=$CACHE/bench-index
PYTHON=$PLACE/venv/bin/python
export PYTHONDONTWRITEBYTECODE=1
mkdir -p "$PLACE"
if ! cmp -s benches/index/requirements.txt "$PLACE/venv/installed"; then
  say "installing the libraries to compare with into $PLACE/venv"
  python3 -m venv "$PLACE/venv"
  # hnswlib comes as source, and is built for this very processor.
  "$PYTHON" -m pip install -q --disable-pip-version-check -r benches/index/requirements.txt
  cp benches/index/requirements.txt "$PLACE/venv/installed"
fi
(cd benches/index && "$PYTHON" -m unittest -q test_harness)
# The product is built as it ships: for any processor, with kernels chosen when it runs.
CARGO_TARGET_DIR=$TARGET/bench-index cargo build --release --manifest-path benches/index/Cargo.toml

ARGUMENTS=(--program "$TARGET/bench-index/release/proximadb-bench-index" --cache "$PLACE/data")
[ -z "${DATA:-}" ] || ARGUMENTS+=(--data "$DATA")
# Plots and table are replaced by whole runs only.
[ $# -gt 0 ] || ARGUMENTS+=(--filters --docs docs/bench)
exec "$PYTHON" benches/index/run.py "${ARGUMENTS[@]}" "$@"
