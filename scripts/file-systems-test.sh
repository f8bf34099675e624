#!/usr/bin/env bash
# The buffer on real file systems: ext4, vfat, tmpfs and an overlay, each of 16 MiB. Root, and loop devices, are needed; installs what
# makes the first two.
#
#   scripts/file-systems-test.sh BINARY
#
# On each the agent buffers without a link, is killed, started again and stopped; then every event must be there and sound.
set -euo pipefail
binary=$(realpath "$1")
if ! command -v mkfs.ext4 >/dev/null || ! command -v mkfs.vfat >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends e2fsprogs dosfstools >/dev/null
fi
folder=$(mktemp -d)
trap 'for m in "$folder"/mnt-*; do umount "$m" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
cat >"$folder/agent.json" <<JSON
{"agent": {"region": "eu-central-1"},
 "logs": {"metrics_collected": {"prometheus": {"log_group_name": "/x", "prometheus_config_path": "$folder/prometheus.yaml"}}},
 "promwatch": {"host_metrics": {"interval": "1s"}, "runtime_dir": "$folder/run", "buffer": {"max_bytes": "4MiB", "sync_interval": "2s"}}}
JSON
echo "scrape_configs: []" >"$folder/prometheus.yaml"
export HOME=$folder
mount_on() {
    case $1 in
        ext4) truncate -s 16M "$folder/ext4" && mkfs.ext4 -q "$folder/ext4" && mount -o loop "$folder/ext4" "$2" ;;
        vfat) truncate -s 16M "$folder/vfat" && mkfs.vfat "$folder/vfat" >/dev/null && mount -o loop "$folder/vfat" "$2" ;;
        tmpfs) mount -t tmpfs -o size=16m tmpfs "$2" ;;
        overlay)
            mkdir -p "$folder/up" && mount -t tmpfs -o size=16m tmpfs "$folder/up" && mkdir "$folder/up/upper" "$folder/up/work" "$folder/lower" &&
                mount -t overlay -o "lowerdir=$folder/lower,upperdir=$folder/up/upper,workdir=$folder/up/work" overlay "$2"
            ;;
    esac
}
failed=0
for kind in ext4 vfat tmpfs overlay; do
    mnt=$folder/mnt-$kind
    mkdir "$mnt"
    mount_on "$kind" "$mnt" 2>"$folder/trouble" || { echo "$kind: skipped, cannot be mounted here: $(head -1 "$folder/trouble")"; continue; }
    "$binary" run --config "$folder/agent.json" --state-dir "$mnt/state" 2>"$folder/log" &
    agent=$!
    sleep 9
    kill -9 $agent
    wait $agent 2>/dev/null || true
    before=$("$binary" buffer cat --state-dir "$mnt/state" | wc -l)
    "$binary" run --config "$folder/agent.json" --state-dir "$mnt/state" 2>>"$folder/log" &
    agent=$!
    sleep 6
    kill -TERM $agent
    wait $agent
    after=$("$binary" buffer cat --state-dir "$mnt/state" | wc -l)
    if [ "$before" -gt 20 ] && [ "$after" -gt "$before" ] && "$binary" buffer verify --state-dir "$mnt/state" >/dev/null; then
        echo "$kind: $before events after kill -9, $after after a clean stop, sound"
    else
        echo "$kind: FAILED: $before events after kill -9, $after after a clean stop"
        cat "$folder/log"
        failed=1
    fi
done
umount "$folder/up" 2>/dev/null || true
exit $failed
