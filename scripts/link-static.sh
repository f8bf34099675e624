#!/usr/bin/env bash
# The linker of scripts/build-static.sh, which sets LINK_TARGET and LINK_ZIG: links as cargo-zigbuild does, then a second time with
# options that `zig cc` knows nothing of and zig's lld does:
#
#   --icf=all     functions with the same code are one (Rust promises no function an address of its own)
#   no .eh_frame  nobody unwinds and nothing prints a trace: the tables of musl's and ring's code only take room
set -euo pipefail
linker=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$LINK_TARGET")_LINKER
said=$("${!linker}" "$@" --verbose 2>&1) || { echo "$said" >&2; exit 1; }
# zig does not quote the words of its command: where a path has a blank the first link stays.
case "$PWD $LINK_ZIG" in *[[:space:]]*[[:space:]]*) exit 0 ;; esac
# The last command is it: zig links its start file first.
link=$(grep '^ld\.lld ' <<<"$said" | tail -n 1) || { echo "zig does not show its command to lld" >&2; exit 1; }
read -ra words <<<"${link#ld.lld }"
script=$(mktemp)
trap 'rm -f "$script"' EXIT
echo 'SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) *(.comment) } } INSERT AFTER .text;' >"$script"
"$LINK_ZIG" ld.lld "${words[@]}" --icf=all --no-eh-frame-hdr -T "$script"
