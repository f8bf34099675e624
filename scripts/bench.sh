#!/usr/bin/env bash
# What promwatch costs, beside its budgets and beside the peers that are installed (vmagent, prometheus, fluent-bit).
#
#   scripts/bench.sh [--no-peers] [--quick] [--binary FILE]
#
# Measures this machine's binary in target/static where scripts/build-static.sh has made it, else the plain
# release build. Needs python3 and openssl, and valgrind with cargo build --release for the instruction counts.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=target/static/$(uname -m)-unknown-linux-musl/promwatch
words=()
while [ $# -gt 0 ]; do
    case $1 in
        --binary) binary=$2; shift ;;
        *) words+=("$1") ;;
    esac
    shift
done
if [ ! -x "$binary" ]; then
    cargo build --release --locked --quiet
    binary=target/release/promwatch
fi
exec python3 scripts/bench/bench.py "$binary" "${words[@]}"
