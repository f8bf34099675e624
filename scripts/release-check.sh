#!/usr/bin/env bash
# What is run before a release: everything of CI (.ci/run), and what is too long for it or installs servers, Go and containers. Root
# and some three hours. Goes on after a failure; one line for each step, and at the end 1 if any failed.
#
#   scripts/release-check.sh [SOAK_MINUTES, default 60] [FUZZ_SECONDS FOR EACH TARGET, default 120]
#
# What each step printed lies in target/release-check/STEP.log.
set -euo pipefail
cd "$(dirname "$0")/.."
soak_minutes=${1:-60}
fuzz_seconds=${2:-120}
logs=target/release-check
mkdir -p "$logs"
failed=()
step() {
    local name=$1 began=$SECONDS verdict=ok
    shift
    "$@" >"$logs/$name.log" 2>&1 || { verdict=FAILED; failed+=("$name"); }
    printf '%-6s %-20s %5d s\n' "$verdict" "$name" $((SECONDS - began))
}
binary=target/static/$(uname -m)-unknown-linux-musl/promwatch

# Long tests are built for speed, but with the debug assertions and overflow checks that a release leaves out; in a folder of its own, or
# the ordinary tests would be built anew.
thorough() {
    env CARGO_TARGET_DIR=target/thorough CARGO_PROFILE_DEV_OPT_LEVEL=2 CARGO_PROFILE_DEV_DEBUG=0 "$@"
}

step tests scripts/test.sh
step seeds thorough PROMWATCH_SEEDS=0..10000 cargo test --locked --test it sim::seeds
step spool thorough PROMWATCH_THOROUGH=1 cargo test --locked --test it spool
step messages thorough PROMWATCH_TEST_ROUNDS=1000000 cargo test --locked --lib dns
step static-binaries scripts/static-test.sh x86_64-unknown-linux-musl aarch64-unknown-linux-musl \
    armv7-unknown-linux-musleabihf arm-unknown-linux-musleabihf
step corpora scripts/fuzz.sh replay
step fuzz scripts/fuzz.sh "$fuzz_seconds"
step exporters scripts/exporters-test.sh
step config-peer python3 scripts/differential/config/run.py
step relabel-peer scripts/differential/relabel/run.sh
step exposition-peer scripts/differential/exposition.sh 120
step file-systems scripts/file-systems-test.sh "$binary"
step boot scripts/boot-test.sh "$binary"
step soak python3 scripts/soak.py "$binary" "$soak_minutes"
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}; see $logs" >&2; exit 1; }
