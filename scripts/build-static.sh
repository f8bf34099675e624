#!/usr/bin/env bash
# Builds static musl binaries, on any Debian with rustup's cargo, also where rustup cannot fetch targets.
#
#   scripts/build-static.sh [TARGET…]      (default: all four)
#
# leaves target/static/TARGET/promwatch, prints its size and the proof that it is static, and fails when one is over the
# budget. Missing tools are installed: Debian's rustc-web with rust-web-src (a compiler and the standard library's source of
# one version) and, in target/tools, zig and cargo-zigbuild from PyPI. zig is the C compiler and the linker and brings
# musl; newer zigs than the pinned one replace musl's allocator and parts of its libm by their own.
set -euo pipefail
cd "$(dirname "$0")/.."

# 2,000,000 are the limit; the rest is left to the next compiler.
BUDGET_BYTES=1980000
ZIG=0.15.2
ZIGBUILD=0.24.0
TARGETS=("$@")
[ ${#TARGETS[@]} -gt 0 ] || TARGETS=(
    x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf arm-unknown-linux-musleabihf)

sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
if [ ! -x /usr/bin/rustc ] || [ ! -d "$(/usr/bin/rustc --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library" ]; then
    echo "installing rustc-web and rust-web-src"
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
        rustc-web rust-web-src >/dev/null
fi
tools=$PWD/target/tools
if [ ! -x "$tools/bin/cargo-zigbuild" ] || [ ! -f "$tools/zig-$ZIG-$ZIGBUILD" ]; then
    echo "installing zig $ZIG and cargo-zigbuild $ZIGBUILD in target/tools"
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" -q install "ziglang==$ZIG" "cargo-zigbuild==$ZIGBUILD"
    touch "$tools/zig-$ZIG-$ZIGBUILD"
fi

# Only for these builds: another compiler or flag in the native build would build everything anew.
export PATH=$tools/bin:$PATH RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
CARGO_ZIGBUILD_ZIG_PATH=$("$tools/bin/python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')
export CARGO_ZIGBUILD_ZIG_PATH
for target in "${TARGETS[@]}"; do
    name=$(echo "$target" | tr 'a-z-' 'A-Z_')
    # zig supplies the start files; rustc would ask for its own, which only rustup's targets have. Nobody unwinds: a broken
    # invariant ends the process at once (SIGILL, and the service manager starts it again). Its message would need panic
    # texts and formatting at every check: an eighth of the file. Builds with plain cargo print it.
    flags="-C link-self-contained=no -C force-unwind-tables=no -Z unstable-options -C panic=immediate-abort"
    # SHA-256 in rounds instead of one written out for each: 9 kB. Processors that have instructions for it use those.
    flags+=' --cfg sha2_backend_soft="compact"'
    # x86-64 code is the largest of the four (ring alone brings a table of 150 kB), so equal pieces are put in functions.
    [ "${target%%-*}" != x86_64 ] || flags+=" -C llvm-args=-enable-machine-outliner=always"
    export "CARGO_TARGET_${name}_RUSTFLAGS=$flags"
done
echo "$(/usr/bin/rustc -V), zig $ZIG"

failed=0
for target in "${TARGETS[@]}"; do
    LINK_TARGET=$target LINK_ZIG=$CARGO_ZIGBUILD_ZIG_PATH cargo-zigbuild rustc --quiet --release --locked --bin promwatch \
        --target-dir target/zig --target "$target" -Z build-std=std,panic_abort -Z build-std-features=optimize_for_size \
        -- -C "linker=$PWD/scripts/link-static.sh"
    mkdir -p "target/static/$target"
    binary=target/static/$target/promwatch
    cp "target/zig/$target/release/promwatch" "$binary"
    size=$(stat -c %s "$binary")
    proof=$(readelf -d "$binary" | grep -q 'NEEDED' && echo "DYNAMIC" || echo "static: no NEEDED libraries")
    interpreter=$(readelf -l "$binary" | grep -q 'INTERP' && echo ", INTERPRETER" || echo ", no interpreter")
    echo "$target: $size bytes, $proof$interpreter"
    if [ "$size" -gt "$BUDGET_BYTES" ]; then
        echo "$target: over the budget of $BUDGET_BYTES bytes" >&2
        failed=1
    fi
    case "$proof$interpreter" in *DYNAMIC* | *INTERPRETER*) failed=1 ;; esac
done
exit $failed
