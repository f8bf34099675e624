#!/usr/bin/env bash
# Runs every fuzz target for a while, on a nightly compiler, installing cargo-fuzz where it is missing.
#
#   scripts/fuzz.sh [SECONDS FOR EACH TARGET, default 30] [TARGET ...]
#   scripts/fuzz.sh replay [TARGET ...]      every file of each corpus once, on the ordinary compiler; seconds after a build
#
# The targets are those of fuzz/Cargo.toml, so a new one is picked up; one without a corpus fails the replay.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml)

if [ "$seconds" = replay ]; then
    # In the tests' folder and with the tests' profile: what they have built of the dependencies is not built again.
    cargo build --quiet --locked --manifest-path fuzz/Cargo.toml --bins --target-dir target
    failed=0 files=0
    for target in "${targets[@]}"; do
        corpus=("fuzz/corpus/$target"/*)
        if [ ! -f "${corpus[0]}" ]; then
            echo "$target: fuzz/corpus/$target has no file"
            failed=1
        elif ! said=$("target/debug/$target" -timeout=10 -rss_limit_mb=512 "${corpus[@]}" 2>&1); then
            printf '%s\n%s: failed\n' "$said" "$target"
            failed=1
        fi
        files=$((files + ${#corpus[@]}))
    done
    echo "$files files of ${#targets[@]} targets"
    exit $failed
fi

cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install --profile minimal nightly
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
failed=0
for target in "${targets[@]}"; do
    echo "== $target"
    cargo +nightly fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -max_len=4096 \
        -verbosity=0 -print_final_stats=1 || { echo "$target: failed"; failed=1; }
done
exit $failed
