#!/usr/bin/env bash
# Everything a reviewer runs: format, lints, docs, unit, simulation and integration tests, and the real binary against real
# peers (node_exporter from Debian, moto_server from PyPI). Installs what the tests need.
#
#   scripts/test.sh            all of it
#   scripts/test.sh quick      without the real peers
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all -- --check
step "lints"
cargo clippy --locked --quiet --all-targets -- -D warnings
step "documentation"
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --quiet --no-deps --document-private-items
step "unit, simulation and integration tests"
cargo test --locked --quiet
[ "${1:-}" != quick ] || exit 0

step "what the end-to-end tests need"
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
missing=()
command -v prometheus-node-exporter >/dev/null || missing+=(prometheus-node-exporter)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
command -v systemd-analyze >/dev/null || missing+=(systemd)
if [ ${#missing[@]} -gt 0 ]; then
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
MOTO=5.2.5
venv=$PWD/target/e2e-venv
if [ ! -f "$venv/moto-$MOTO" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" -q install "moto[server]==$MOTO"
    touch "$venv/moto-$MOTO"
fi

step "the real binary against real peers"
cargo build --locked --quiet
"$venv/bin/python" tests/e2e/main.py target/debug/promwatch

step "the real binary against hostile exporters"
python3 tests/e2e/hostile.py target/debug/promwatch

step "the real binary among strangers"
python3 tests/e2e/strangers.py target/debug/promwatch

step "the real binary and a CloudWatch Logs that fails at chosen moments"
python3 tests/e2e/delivery.py target/debug/promwatch

step "the real binary and every key of a scrape configuration"
python3 tests/e2e/scrape_config.py target/debug/promwatch

step "the systemd unit"
scripts/unit-test.sh
