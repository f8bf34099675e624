#!/usr/bin/env bash
# Compares our exposition parsers with those of Prometheus 3.0.1 on random pages. Not part of the ordinary tests: it needs
# Go and its module proxy. PAGES is the folder of pages to start from; scripts/exporters-test.sh leaves one.
# usage: [PAGES=target/exporter-pages] scripts/differential/exposition.sh [SECONDS] [SEED]
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build -q --example exposition_dump
work=target/differential/exposition
mkdir -p "$work"
cp scripts/differential/exposition/main.go "$work/"
[ -f "$work/go.mod" ] || (cd "$work" && go mod init differential 2>/dev/null && go get github.com/prometheus/prometheus@v0.300.1 && go mod tidy)
(cd "$work" && go build -o exposition .)
"$work/exposition" target/debug/examples/exposition_dump "${PAGES:-tests/golden/pages}" "${1:-60}" ${2:+"$2"}
