#!/usr/bin/env bash
# systemd's own opinion of the unit: no complaint, and an exposure below 2.0.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# verify wants the program to exist.
sed 's#/usr/local/bin/promwatch#/bin/true#' systemd/promwatch.service >"$folder/promwatch.service"
systemd-analyze verify --man=no "$folder/promwatch.service" 2>&1 | tee "$folder/verify"
[ ! -s "$folder/verify" ] || { echo "systemd-analyze verify complains"; exit 1; }
mkdir "$folder/promwatch.service.d"
score() { systemd-analyze security --offline=yes --no-pager "$folder/promwatch.service" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p'; }
exposure=$(score)
echo "exposure $exposure"
awk -v e="$exposure" 'BEGIN { exit !(e != "" && e < 2.0) }' || { echo "exposure must be below 2.0"; exit 1; }
cp systemd/promwatch.service.d/unprivileged.conf.example "$folder/promwatch.service.d/unprivileged.conf"
systemd-analyze verify --man=no "$folder/promwatch.service"
