#!/usr/bin/env bash
# Boots systemd in a container (systemd-nspawn, on a throw-away layer over this machine's own root) and tries the unit for
# real: start, credentials that rotate, reload, kill -9, a stuck loop, stop, the drop-in example. Needs root and two minutes.
#
#   scripts/boot-test.sh BINARY
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${1:?usage: scripts/boot-test.sh BINARY}")
[ "$(id -u)" = 0 ] || { echo "needs root, to boot a container" >&2; exit 1; }
if ! command -v systemd-nspawn >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends systemd-container >/dev/null
fi
folder=$(mktemp -d)
cleanup() {
    umount -q -l "$folder/layer/root" || true
    umount -q -l "$folder/layer" || true
    rm -rf "$folder"
}
trap cleanup EXIT
mkdir "$folder/layer"
mount -t tmpfs -o size=256m tmpfs "$folder/layer"
mkdir "$folder/layer"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/layer/upper,workdir=$folder/layer/work" "$folder/layer/root"
root=$folder/layer/root
install -m 755 "$binary" "$root/usr/local/bin/promwatch"
rm -f "$root/etc/machine-id" "$root/etc/resolv.conf"
systemd-id128 new >"$root/etc/machine-id"
cat >"$root/etc/systemd/system/trial.target" <<UNIT
[Unit]
Requires=basic.target trial.service
UNIT
cat >"$root/etc/systemd/system/trial.service" <<UNIT
[Unit]
After=basic.target systemd-journald.service
[Service]
Type=oneshot
ExecStart=$(command -v python3) $PWD/tests/e2e/boot_trial.py $PWD
StandardOutput=append:/trial.log
StandardError=append:/trial.log
TimeoutStartSec=300
UNIT
timeout -k 5 360 env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit \
    --console=pipe --machine=promwatch-trial --bind-ro="$PWD" systemd.unit=trial.target </dev/null >"$folder/console" 2>&1 || true
cat "$root/trial.log" 2>/dev/null || tail -30 "$folder/console"
grep -qx passed "$root/trial.log"
