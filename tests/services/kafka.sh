#!/usr/bin/env bash
# One Apache Kafka broker (KRaft) for tests, without Docker.
#
#   kafka.sh install   fetch the jars (Maven Central, once)
#   kafka.sh start     install if needed, start, wait until it answers; prints `export KAFKA_BOOTSTRAP=…`
#   kafka.sh stop      end it in order; data stays
#   kafka.sh kill      end it with SIGKILL; data stays (fault tests)
#   kafka.sh status    prints the endpoint; exit status 1 when it is down
#   kafka.sh clean     kill it and delete its data
#
# Use:  eval "$(tests/services/kafka.sh start)"
#
# KAFKA_PORT (19092), KAFKA_CONTROLLER_PORT (KAFKA_PORT + 1), KAFKA_VERSION (4.4.0), KAFKA_JAVA_OPTS,
# KAFKA_EXTRA_CONFIG (a file of further server properties), and the folders in common.sh.
set -euo pipefail

SERVICE=kafka
PORT=${KAFKA_PORT:-19092}
CONTROLLER_PORT=${KAFKA_CONTROLLER_PORT:-$((PORT + 1))}
# shellcheck disable=SC2034 # used by common.sh
EXTRA_PORTS=("$CONTROLLER_PORT")
VERSION=${KAFKA_VERSION:-4.4.0}
# C1 only: a test broker is started more often than it is loaded. Drop it to measure throughput.
JAVA_OPTS=${KAFKA_JAVA_OPTS:--Xms96m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
LIBS=$CACHE_ROOT/kafka/$VERSION

install() {
  [ -d "$LIBS" ] && return
  need_tools
  note "fetching Kafka $VERSION into $LIBS"
  mkdir -p "$CACHE_ROOT/kafka"
  local work
  work=$(mktemp -d "$CACHE_ROOT/kafka/fetch.XXXXXX")
  cat >"$work/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>io.proximadb.tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$VERSION</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
  if ! mvn -B -q -f "$work/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$work/libs" >&2; then
    rm -rf "$work"
    fail "the jars could not be fetched from Maven Central"
  fi
  # Renamed as a whole, so a folder of this name is always complete; a parallel fetch may have won.
  mv -T "$work/libs" "$LIBS" 2>/dev/null || [ -d "$LIBS" ]
  rm -rf "$work"
}

properties() {
  cat <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$CONTROLLER_PORT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:$PORT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs=$RUN_DIR/data

# One broker: nothing can have a second replica.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Small and quick.
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# After a kill the broker may register again only when its former session has run out: 9 s by default.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
  # Of a key that comes twice the later line wins.
  [ -z "${KAFKA_EXTRA_CONFIG:-}" ] || cat "$KAFKA_EXTRA_CONFIG"
}

is_ready() { grep -q 'Kafka Server started' "$LOG_FILE" && port_answers "$PORT"; }

launch() {
  properties >"$RUN_DIR/server.properties"
  # Once per data folder: it takes a JVM of its own, which a fault test should not wait for at each restart.
  if [ ! -e "$RUN_DIR/data/meta.properties" ]; then
    "$JAVA" -cp "$LIBS/*" kafka.tools.StorageTool format \
      --cluster-id proximadbTestsAAAAAAAA -c "$RUN_DIR/server.properties" >"$LOG_FILE" 2>&1 ||
      {
        tail -n 20 "$LOG_FILE" >&2
        fail "the data folder could not be formatted, see $LOG_FILE"
      }
  fi
  # A session of its own, so that a Ctrl-C in the tests' terminal leaves it alone; 9>&- lets go of our lock.
  # shellcheck disable=SC2086 # JAVA_OPTS is several words
  setsid "$JAVA" "-D$MARK" $JAVA_OPTS -Dorg.slf4j.simpleLogger.showDateTime=true \
    -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS \
    -cp "$LIBS/*" kafka.Kafka "$RUN_DIR/server.properties" >"$LOG_FILE" 2>&1 </dev/null 9>&- &
  echo $! >"$RUN_DIR/pid"
  wait_ready $!
}

endpoints() { echo "export KAFKA_BOOTSTRAP=127.0.0.1:$PORT"; }

main "$@"
