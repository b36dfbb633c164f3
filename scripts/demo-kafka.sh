#!/usr/bin/env bash
# The demo through a real Kafka and a real schema registry, both started here without Docker. They stay up as long
# as the demo's server does, and are stopped with it unless they ran before.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$ROOT"

STARTED=()
finish() {
  local service
  for service in "${STARTED[@]}"; do "tests/services/$service.sh" stop >&2 || true; done
}
trap finish EXIT

for service in kafka schema-registry; do
  "tests/services/$service.sh" status >/dev/null 2>&1 || STARTED+=("$service")
  endpoints=$("tests/services/$service.sh" start) || die "$service did not start"
  eval "$endpoints"
done

"$CACHE/venv/bin/python" scripts/publish_passages.py --also hello
cargo build --profile demo --bin proximadb
# The folder also has hello.yaml, which reads what you publish yourself.
"$TARGET/demo/proximadb" demo --pipeline docs/examples "$@"
