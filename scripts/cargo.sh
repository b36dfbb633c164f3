#!/usr/bin/env bash
# cargo, found where bootstrap.sh puts it even when this shell's PATH doesn't know.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
exec cargo "$@"
