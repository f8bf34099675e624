#!/usr/bin/env bash
# Runs every fuzz target for a while, on a nightly compiler, installing cargo-fuzz where it is missing.
# usage: scripts/fuzz.sh [SECONDS FOR EACH TARGET, default 30] [TARGET ...]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30}
shift || true
cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install --profile minimal nightly
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
for target in "${targets[@]}"; do
    echo "== $target"
    cargo +nightly fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -max_len=4096 -verbosity=0 -print_final_stats=1
done
