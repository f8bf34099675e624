#!/usr/bin/env bash
# `promwatch once` against real exporters, in OpenMetrics and in the text format. Installs them from Debian, starts each with
# what it watches on spare ports, and judges every event. Not part of scripts/test.sh: it installs servers.
#
# usage: scripts/exporters-test.sh [EXPORTER ...]
set -euo pipefail
cd "$(dirname "$0")/.."
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
packages=(
    prometheus-node-exporter prometheus-blackbox-exporter prometheus-process-exporter prometheus-pushgateway
    prometheus-redis-exporter redis-server prometheus-nginx-exporter nginx-light prometheus-apache-exporter apache2
    prometheus-snmp-exporter snmpd prometheus-postgres-exporter postgresql python3-prometheus-client
)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    $sudo apt-get update -qq
    # RUNLEVEL keeps the services from being started on their own ports.
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
fi
cargo build --locked --quiet
# Debian's own Python, which sees python3-prometheus-client.
exec /usr/bin/python3 tests/e2e/exporters.py target/debug/promwatch "$@"
