#!/usr/bin/env bash
# Everything that can be said about the code without running its tests. Writes nothing in the source folder.
# Goes on after a failure, so that one run shows everything; the exit status tells.
set -uo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$ROOT" || exit 1

FAILED=()
step() { # NAME COMMAND…
  local name=$1 started=$SECONDS
  shift
  say "── $name"
  if "$@" </dev/null; then
    say "$name: fine ($((SECONDS - started)) s)"
  else
    FAILED+=("$name")
    say "$name: FAILED ($((SECONDS - started)) s)"
  fi
}

# Every pipeline that we ship or show: the files, and the blocks in docs/ that are whole ones.
pipelines() {
  local blocks files
  blocks=$(mktemp -d)
  perl -e '
    my $folder = shift;
    for my $page (@ARGV) {
      open my $in, "<", $page or die "$page: $!";
      (my $name = $page) =~ tr{/}{_};
      my $block;
      while (<$in>) {
        if (/^```/ && defined $block) {
          if ($block =~ /^version: 1$/m) { open my $out, ">", "$folder/$name-line$." or die; print $out $block }
          undef $block;
        } elsif (/^```yaml/) { $block = "" } elsif (defined $block) { $block .= $_ }
      }
    }' "$blocks" README.md docs/*.md
  mapfile -t files < <(find pipelines docs/examples "$blocks" -type f | sort)
  # Exactly what the tests are built from. Without --workspace and --tests cargo unifies other features, and builds
  # half of the dependencies a second time.
  cargo build -q --workspace --bins --tests || return 1
  local file bad=0
  for file in "${files[@]}"; do
    "$TARGET/debug/proximadb" pipeline validate "$file" >/dev/null || { say "$(basename "$file") is not valid"; bad=1; }
  done
  rm -rf "$blocks"
  return $bad
}

scripts() { # where shellcheck is at hand
  if have shellcheck; then
    git ls-files -z -- '*.sh' .ci/run | xargs -0 shellcheck -x -P SCRIPTDIR -S warning -e SC2034
  else
    local file bad=0
    while IFS= read -r file; do bash -n "$file" || bad=1; done < <(git ls-files -- '*.sh' .ci/run)
    return $bad
  fi
}

step format cargo fmt --all --check
# Outside the workspace, so --all doesn't see it.
step "format of benches/index" cargo fmt --manifest-path benches/index/Cargo.toml --check
step tidy scripts/tidy.sh
step scripts scripts
step clippy cargo clippy --workspace --all-targets -- -D warnings
# The set that `make demo` builds has code of its own behind `cfg(not(feature = …))`.
step "clippy, slim set" cargo clippy --no-default-features --bin proximadb -- -D warnings
step docs env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
step pipelines pipelines

[ ${#FAILED[@]} = 0 ] || { say "failed: $(printf '%s; ' "${FAILED[@]}" | sed 's/; $//')"; exit 1; }
say "all checks are fine"
