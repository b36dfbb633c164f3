#!/usr/bin/env bash
# A schema registry with Confluent's REST API (Apicurio Registry 2) for tests, without Docker. Schemas live
# in an embedded database file; it needs no Kafka.
#
#   schema-registry.sh install|start|stop|kill|status|clean     (as kafka.sh)
#
# Use:  eval "$(tests/services/schema-registry.sh start)"
# The URL has a path: "$SCHEMA_REGISTRY_URL/subjects".
#
# SCHEMA_REGISTRY_PORT (18081), SCHEMA_REGISTRY_VERSION (2.6.13.Final; 3.x wants Java 21),
# SCHEMA_REGISTRY_JAVA_OPTS, and the folders in common.sh.
set -euo pipefail

SERVICE=schema-registry
PORT=${SCHEMA_REGISTRY_PORT:-18081}
# shellcheck disable=SC2034 # used by common.sh
EXTRA_PORTS=()
VERSION=${SCHEMA_REGISTRY_VERSION:-2.6.13.Final}
JAVA_OPTS=${SCHEMA_REGISTRY_JAVA_OPTS:--Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
APP=$CACHE_ROOT/schema-registry/$VERSION
URL=http://127.0.0.1:$PORT/apis/ccompat/v7

install() {
  [ -d "$APP" ] && return
  need_tools
  note "fetching Apicurio Registry $VERSION into $APP (150 MB)"
  mkdir -p "$CACHE_ROOT/schema-registry"
  local work
  work=$(mktemp -d "$CACHE_ROOT/schema-registry/fetch.XXXXXX")
  mkdir "$work/app"
  # In an empty folder: Maven reads the pom.xml of the folder it stands in.
  if ! (cd "$work" && mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    -Dartifact="io.apicurio:apicurio-registry-app:$VERSION:tar.gz:all" -DoutputDirectory="$work" >&2 &&
    tar -xzf "$work"/*.tar.gz -C "$work/app"); then
    rm -rf "$work"
    fail "the registry could not be fetched from Maven Central"
  fi
  mv -T "$work/app" "$APP" 2>/dev/null || [ -d "$APP" ]
  rm -rf "$work"
}

is_ready() { curl -fsS -m 5 "$URL/subjects" >/dev/null 2>&1; }

launch() {
  command -v curl >/dev/null || fail "curl is needed; run: apt-get install -y curl"
  local jar first=yes
  jar=$(find "$APP" -maxdepth 1 -name '*-runner.jar' -o -maxdepth 1 -name quarkus-run.jar | head -n 1)
  [ -n "$jar" ] || fail "no runnable jar in $APP; delete that folder and install again"
  [ ! -e "$RUN_DIR/data/registry.mv.db" ] || first=no
  # It writes a transaction journal into the folder it stands in.
  cd "$RUN_DIR"
  # quarkus.datasource.* is what 2.x reads, apicurio.datasource.* what 3.x reads.
  # shellcheck disable=SC2086 # JAVA_OPTS is several words
  setsid "$JAVA" "-D$MARK" $JAVA_OPTS \
    -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$PORT" \
    -Dquarkus.management.host=127.0.0.1 -Dquarkus.management.port=0 \
    "-Dquarkus.datasource.jdbc.url=jdbc:h2:file:$RUN_DIR/data/registry" \
    -Dquarkus.datasource.jdbc.initial-size=2 -Dquarkus.datasource.jdbc.min-size=2 \
    -Dquarkus.datasource.jdbc.max-size=20 \
    "-Dapicurio.datasource.url=jdbc:h2:file:$RUN_DIR/data/registry" \
    -Dapicurio.datasource.jdbc.initial-size=2 -Dapicurio.datasource.jdbc.min-size=2 \
    -Dapicurio.datasource.jdbc.max-size=20 \
    -jar "$jar" >"$LOG_FILE" 2>&1 </dev/null 9>&- &
  echo $! >"$RUN_DIR/pid"
  wait_ready $!
  # Apicurio checks no compatibility until told to; Confluent's registry starts with BACKWARD.
  if [ "$first" = yes ]; then
    curl -fsS -m 10 -X PUT -H 'Content-Type: application/vnd.schemaregistry.v1+json' \
      -d '{"compatibility":"BACKWARD"}' "$URL/config" >/dev/null
  fi
}

endpoints() { echo "export SCHEMA_REGISTRY_URL=$URL"; }

main "$@"
