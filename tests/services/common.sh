# Shared by the service scripts beside this file; sourced, never run.
#
# A script sets SERVICE and PORT, defines `install` and `launch`, and calls `main "$@"`.
# Where things go, all settable from the environment:
#   PROXIMADB_SERVICES_CACHE  downloaded programs, kept for ever  (~/.cache/proximadb-services)
#   PROXIMADB_SERVICES_RUN    data, logs, pid files               ($TMPDIR/proximadb-services)
# One instance is one folder, named after its port: two runs with different ports never meet.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # shared with the script that sources this, both ways

CACHE_ROOT=${PROXIMADB_SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/proximadb-services}
RUN_ROOT=${PROXIMADB_SERVICES_RUN:-${TMPDIR:-/tmp}/proximadb-services}
RUN_DIR=$RUN_ROOT/$SERVICE-$PORT
LOG_FILE=$RUN_DIR/$SERVICE.log
MARK=proximadb.services.run=$RUN_DIR
READY_SECONDS=${PROXIMADB_SERVICES_READY_SECONDS:-180}

JAVA=java
[ -z "${JAVA_HOME:-}" ] || JAVA=$JAVA_HOME/bin/java

note() { printf '%s: %s\n' "$SERVICE" "$*" >&2; }
fail() {
  note "$*"
  exit 1
}

# The pid of our instance, or nothing. The mark on its command line tells it from a stranger that was
# given the same pid after ours died.
instance_pid() {
  local pid
  pid=$(cat "$RUN_DIR/pid" 2>/dev/null) || return 1
  [ -n "$pid" ] && tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "-D$MARK" || return 1
  echo "$pid"
}

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A process that was killed may answer on its ports for a moment after it is gone from /proc.
wait_closed() {
  local tries
  for ((tries = 0; tries < 50; tries++)); do
    port_answers "$1" || return 0
    sleep 0.1
  done
  return 1
}

# need_java MAJOR: a JVM of at least that version.
need_java() {
  local major
  major=$("$JAVA" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  [ -n "$major" ] && [ "$major" -ge "$1" ]
}

# Java and Maven, through apt where we may, else the one command that is missing.
need_tools() {
  # Tests that were not told to require the service must not install anything behind somebody's back.
  [ -z "${PROXIMADB_SERVICES_OFFLINE:-}" ] || fail "not installed; run: ${BASH_SOURCE[-1]} install"
  need_java 17 && command -v mvn >/dev/null && return
  local command="apt-get install -y --no-install-recommends openjdk-17-jre-headless maven curl"
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    note "installing Java 17 and Maven"
    { DEBIAN_FRONTEND=noninteractive apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command -qq; } >&2 ||
      fail "cannot install Java and Maven; run: $command"
  else
    fail "Java 17 or newer and Maven are needed; run: sudo $command"
  fi
  need_java 17 || fail "java is still older than 17; set JAVA_HOME"
}

# The pid of the process that runs in the background, ready when `is_ready` says so.
wait_ready() {
  local pid=$1 deadline=$((SECONDS + READY_SECONDS))
  while ((SECONDS < deadline)); do
    if is_ready; then
      note "ready, pid $pid, log $LOG_FILE"
      return
    fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 20 "$LOG_FILE" >&2
  halt TERM
  fail "not ready after $READY_SECONDS s, or it ended; see $LOG_FILE"
}

start() {
  mkdir -p "$RUN_DIR"
  # Of two starts at once the second waits here and then finds the service running.
  exec 9>"$RUN_DIR/lock"
  flock 9
  if instance_pid >/dev/null; then
    note "already running, pid $(instance_pid)"
  else
    install
    local port
    for port in "$PORT" "$@"; do
      wait_closed "$port" || fail "port $port is taken by something else"
    done
    need_java 17 || fail "Java 17 or newer is needed; run: ${BASH_SOURCE[-1]} install"
    launch
  fi
  endpoints
}

# halt SIGNAL: end our instance and wait until it is gone.
halt() {
  local pid waited
  if pid=$(instance_pid); then
    kill -"$1" "$pid"
    for ((waited = 0; waited < 300; waited++)); do
      instance_pid >/dev/null || break
      sleep 0.1
    done
    if instance_pid >/dev/null; then
      note "still there after 30 s: killing it"
      kill -KILL "$pid"
    fi
    note "ended by SIG$1"
  else
    note "not running"
  fi
  rm -f "$RUN_DIR/pid"
}

status() {
  if instance_pid >/dev/null; then
    endpoints
  else
    note "not running"
    exit 1
  fi
}

main() {
  case "${1:-}" in
    install) install ;;
    start) start "${EXTRA_PORTS[@]}" ;;
    stop) halt TERM ;;
    kill) halt KILL ;;
    status) status ;;
    clean)
      halt KILL
      rm -rf "$RUN_DIR"
      ;;
    *)
      echo "usage: $0 install|start|stop|kill|status|clean" >&2
      exit 2
      ;;
  esac
}
