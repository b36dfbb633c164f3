#!/usr/bin/env bash
# The figures marked *bench* in docs/benchmarks.md: kernels, codecs, log. Says what machine and load they stand for.
#
#   bench.sh [FILTER]
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$ROOT"

load=$(cut -d' ' -f1-3 /proc/loadavg)
echo "machine: $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores; load $load; commit $(git rev-parse --short HEAD)"
cargo bench --workspace --bench '*' -- "$@"
echo "load after: $(cut -d' ' -f1-3 /proc/loadavg)"
