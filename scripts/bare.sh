#!/usr/bin/env bash
# Tries a command in a bare Debian with git and make and nothing else: a machine that has everything hides what
# bootstrap.sh forgets. Needs root and debootstrap.
#
#   bare.sh                          a shell in the tree
#   bare.sh 'DEMO_EXIT=1 make demo'  a command in a clone of this repository's HEAD
#   bare.sh --fresh COMMAND          the same in a tree made anew
#
# BARE_DIR is the tree (/var/tmp/proximadb-bare), BARE_SUITE the release (this machine's). Packages come from where
# this machine's own do, and its certificates are trusted in there.
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"

DIR=${BARE_DIR:-/var/tmp/proximadb-bare}
SUITE=${BARE_SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
[ "$(id -u)" = 0 ] || die "root is needed, for chroot and mounts"
have debootstrap || die "debootstrap is needed: apt-get install debootstrap"

let_go() {
  local place
  for place in proc sys dev; do
    if mountpoint -q "$DIR/$place"; then umount -l "$DIR/$place"; fi
  done
}
trap let_go EXIT

if [ "${1:-}" = --fresh ]; then
  shift
  let_go
  # Never across a mount: what is mounted in there is not ours to delete.
  rm -rf --one-file-system "$DIR"
fi

if [ ! -e "$DIR/bare-made" ]; then
  # shellcheck disable=SC2016 # apt's own variables
  sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' | sort -u |
    awk -v suite="$SUITE" '$2 ~ "^" suite "(-updates|-security)?$" && $3 == "main"')
  mirror=$(awk -v suite="$SUITE" '$2 == suite { print $1; exit }' <<<"$sources")
  [ -n "$mirror" ] || die "this machine's apt knows no mirror of $SUITE; run apt-get update, or set BARE_SUITE"
  say "making a bare $SUITE in $DIR"
  debootstrap --variant=minbase --include=git,make,ca-certificates "$SUITE" "$DIR" "$mirror" >"$DIR.log" 2>&1 ||
    die "debootstrap failed, see $DIR.log"
  awk '{ print "deb", $0 }' <<<"$sources" >"$DIR/etc/apt/sources.list"
  touch "$DIR/bare-made"
fi
cp -L /etc/resolv.conf /etc/hosts "$DIR/etc/"
mkdir -p "$DIR/usr/local/share/ca-certificates"
cp /usr/local/share/ca-certificates/*.crt "$DIR/usr/local/share/ca-certificates/" 2>/dev/null || true

mount -t proc proc "$DIR/proc"
mount -t sysfs sys "$DIR/sys"
mount --rbind /dev "$DIR/dev"
mount --make-rslave "$DIR/dev"
inside() {
  chroot "$DIR" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
inside update-ca-certificates >/dev/null 2>&1

# Build outputs live outside the clone, so that a second try is a warm one.
rm -rf "$DIR/src/proximadb"
git clone -q "$ROOT" "$DIR/src/proximadb"
say "in $DIR: commit $(git -C "$DIR/src/proximadb" rev-parse --short HEAD)"
if [ $# = 0 ]; then
  inside CARGO_TARGET_DIR=/src/target bash -c 'cd /src/proximadb && exec bash'
else
  started=$SECONDS status=0
  inside CARGO_TARGET_DIR=/src/target bash -c "cd /src/proximadb && $*" || status=$?
  say "ended with $status after $((SECONDS - started)) s"
  exit $status
fi
