#!/usr/bin/env bash
# What is too long for CI and is run before a release: 10,000 seeds of the simulation, all four static binaries run, fuzzing,
# and an hour of real time with kills, outages and a full disk.
#
#   scripts/release-check.sh [SOAK_MINUTES]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/test.sh
echo "== 10,000 seeds"
PROMWATCH_SEEDS=0..10000 cargo test --locked --quiet --release --test it sim::seeds
PROMWATCH_THOROUGH=1 cargo test --locked --quiet --release --test it spool
echo "== static binaries"
scripts/static-test.sh x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf arm-unknown-linux-musleabihf
echo "== fuzzing"
scripts/fuzz.sh 120
echo "== soak"
python3 scripts/soak.py target/static/x86_64-unknown-linux-musl/promwatch "${1:-60}"
