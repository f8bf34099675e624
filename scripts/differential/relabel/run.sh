#!/usr/bin/env bash
# Holds pattern, relabel and discovery against Go's regexp and Prometheus' packages. Needs go; not part of the ordinary tests.
# usage: run.sh [seed] [cases of each kind]
set -euo pipefail
cd "$(dirname "$0")"
cases=$(mktemp)
trap 'rm -f "$cases"' EXIT
go run . -seed "${1:-$RANDOM}" -count "${2:-20000}" >"$cases"
PROMWATCH_RELABEL_CASES=$cases cargo test --manifest-path ../../../Cargo.toml --test it differential_relabel -- --ignored --nocapture
