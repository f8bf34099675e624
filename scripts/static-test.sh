#!/usr/bin/env bash
# Builds static binaries (scripts/build-static.sh) and runs them: natively where this machine can, else under qemu-user.
#
#   scripts/static-test.sh TARGET…
#
# Each must print its version, judge a configuration, read the golden spools, and do the main job with node_exporter and
# HTTPS on loopback (tests/e2e/static_binary.py). The ARMv6 binary runs on a Pi Zero's processor (arm1176), so that an
# instruction which that does not have fails.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { echo "usage: scripts/static-test.sh TARGET…" >&2; exit 64; }

runner() {
    case $1 in
        "$(uname -m)"-*) ;;
        aarch64-*) echo qemu-aarch64-static ;;
        armv7-*) echo qemu-arm-static -cpu cortex-a7 ;;
        arm-*) echo qemu-arm-static -cpu arm1176 ;;
        x86_64-*) echo qemu-x86_64-static ;;
    esac
}

sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
missing=()
command -v prometheus-node-exporter >/dev/null || missing+=(prometheus-node-exporter)
command -v openssl >/dev/null || missing+=(openssl)
for target in "$@"; do
    program=$(runner "$target" | cut -d' ' -f1)
    [ -z "$program" ] || command -v "$program" >/dev/null || { missing+=(qemu-user-static); break; }
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Over the budget or not, what was built is run; the failure is told at the end.
status=0
scripts/build-static.sh "$@" || status=1
for target in "$@"; do
    binary=target/static/$target/promwatch
    [ -x "$binary" ] || { status=1; continue; }
    read -ra wrapper <<<"$(runner "$target")"
    echo "== $target${wrapper[*]:+ under ${wrapper[*]}}"
    python3 tests/e2e/static_binary.py "$binary" "${wrapper[@]}" || status=1
done
exit $status
