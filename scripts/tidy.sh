#!/usr/bin/env bash
# What neither the compiler nor clippy sees. Prints FILE:LINE: what and why; ends with 1 if there is anything.
#
#   * who may import whom: the table in docs/ARCHITECTURE.md, read from `crate::` paths outside tests
#   * lines over 120 characters (rustfmt holds code to 110, but leaves comments alone; it can't break strings, nor do
#     we ask for it), files over 700 lines, dbg!, todo!, ignored tests
#   * files that no module names, which are never compiled
#   * absolute paths of somebody's machine, in any tracked file
set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "$0")/env.sh"
cd "$ROOT"

# Generated code is nobody's style.
mapfile -t RUST < <(git ls-files --cached --others --exclude-standard -- '*.rs' ':!proto/src/proximadb.v1.rs' | while read -r file; do [ ! -e "$file" ] || echo "$file"; done)

imports() {
  perl -e '
    use strict; use warnings;
    my ($table, @files) = @ARGV;
    my %may;
    open my $doc, "<", $table or die "$table: $!";
    while (<$doc>) {
      # | `wal`, `store` | `types`, `config` |
      next unless /^\|((?:\s*`\w+`,?)+)\s*\|(.*)\|\s*$/;
      my ($who, $whom) = ($1, $2);
      my $all = $whom =~ /everything/;
      for my $folder ($who =~ /`(\w+)`/g) {
        $may{$folder}{$_} = 1 for $whom =~ /`(\w+)`/g;
        $may{$folder}{"*"} = 1 if $all;
        $may{$folder}{$folder} = 1;
      }
    }
    die "$table: found no table of imports\n" unless %may;
    my $bad = 0;
    for my $file (@files) {
      next unless $file =~ m{^src/(\w+)(?:/|\.rs$)};
      my $from = $1;
      next if $from eq "lib" || $file =~ m{/(?:tests|contract)(?:\.rs$|/)};
      open my $in, "<", $file or die "$file: $!";
      my ($text, $line) = ("", 0);
      while (<$in>) {
        last if /^#\[cfg\((?:all\()?test\b/;      # tests stand at the end of a file and may use what they like
        s{//.*}{};
        $text .= $_;
      }
      if (!$may{$from}) {
        print "$file:1: src/$from has no row in the import table of $table\n";
        $bad = 1;
        next;
      }
      while ($text =~ /\bcrate::(?:(\w+)|\{)/g) {
        my ($name, $at) = ($1, $-[0]);
        my @names = $name // ();
        if (!defined $name) {                       # use crate::{a::B, c::{D, E}};
          my ($depth, $word, $head) = (1, "", 1);
          while ($depth > 0 && $text =~ /\G(\w+|[{},]|::|[^\w{},:]+|:)/gc) {
            my $token = $1;
            if ($token eq "{") { $depth++ }
            elsif ($token eq "}") { $depth-- }
            elsif ($token eq ",") { $head = 1 if $depth == 1 }
            elsif ($token =~ /^\w+$/ && $depth == 1 && $head) { push @names, $token; $head = 0 }
          }
        }
        $line = 1 + (substr($text, 0, $at) =~ tr/\n//);
        for my $to (@names) {
          next if $may{$from}{"*"} || $may{$from}{$to} || $to !~ /^[a-z]/;
          print "$file:$line: src/$from may not import src/$to (see the import table of $table)\n";
          $bad = 1;
        }
      }
    }
    exit $bad;
  ' docs/ARCHITECTURE.md "$@"
}

# Files that no `mod` names, nor a `path = "…"`. Where Cargo looks by itself, any file is a crate's root.
orphans() {
  perl -e '
    use strict; use warnings;
    my %named;
    for my $file (@ARGV) {
      my ($folder, $stem) = $file =~ m{^(?:(.*)/)?(\w+)\.rs$} or next;
      $folder //= ".";
      my $own = $stem =~ /^(?:mod|lib|main)$/ ? $folder : "$folder/$stem";
      open my $in, "<", $file or die "$file: $!";
      while (<$in>) {
        $named{"$folder/$1"} = 1 if /#\[path = "([^"]+)"\]/;
        next unless /^\s*(?:pub(?:\([^)]*\))? )?mod (\w+);/;
        $named{"$_/$1.rs"} = $named{"$_/$1/mod.rs"} = 1 for $folder, $own;
      }
    }
    for my $file (@ARGV) {
      next if $named{$file} || $file =~ m{(?:^|/)(?:(?:lib|main|build)\.rs$|(?:tests|benches|examples)/\w+\.rs$)} && $file !~ m{^src/};
      next if $file =~ m{^(?:.*/)?src/(?:lib|main)\.rs$};
      print "$file:1:\n";
    }
  ' "$@"
}

bad=0
report() { # MESSAGE, with FILE:LINE:… on standard input
  local line
  while IFS= read -r line; do
    echo "$line" | cut -c1-140 | sed "s|\$|   ← $1|"
    bad=1
  done
}

imports "${RUST[@]}" || bad=1
report "longer than 120" < <(perl -CSD -ne 'chomp; print "$ARGV:$.: ", length, " characters\n" if length > 120 && (m{^\s*//} || !/"/); close ARGV if eof' "${RUST[@]}")
report "over 700 lines: is there a second idea in it?" < <(wc -l "${RUST[@]}" | awk '$2 != "total" && $1 > 700 { print $2 ":" $1 ":" }')
report "no module names it: it is never compiled" < <(orphans "${RUST[@]}")
report "unfinished" < <(grep -nHE '\b(dbg|todo|unimplemented)!\s*\(' "${RUST[@]}" | grep -vE '^[^:]+:[0-9]+:\s*//')
report "a test that never runs proves nothing" < <(grep -nHE '#\[ignore' "${RUST[@]}")
# Written in two parts, so that this line doesn't find itself.
report "a path of somebody's machine" < <(git grep -nIE '(^|[^A-Za-z0-9_.~$}-])/(wo''rk|ro''ot|ho''me|Us''ers)/[A-Za-z.]' -- . ':!*.lock')
[ "$bad" = 0 ] || { say "tidy: see above"; exit 1; }
