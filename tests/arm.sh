#!/usr/bin/env bash
# `make test-arm`: builds the library's tests for 64-bit ARM on a Debian machine of another kind, and runs those of the
# native engine in an emulator: kernels for NEON beside libtorch for ARM. What it fetches lies in target/arm.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
here=$PWD/target/arm
root=$here/root/usr/lib/aarch64-linux-gnu
mkdir -p "$here"

if [ ! -e "$here/torch/complete" ]; then
    (
        # shellcheck source=modules/libtorch
        . modules/libtorch
        machine=aarch64
        rm -rf "$here/torch"
        libtorch_fetch_cpu "$here/torch"
        rm -rf "$here/torch/wheels"
    )
    touch "$here/torch/complete"
fi

# MPI and HDF5 for ARM, with all they need, unpacked beside this machine's.
if [ ! -e "$here/root/complete" ]; then
    echo "$0: fetching MPI and HDF5 for ARM"
    apt=$here/apt
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    touch "$apt/status"
    own=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Debug::NoLocking=1 -o "Dir::State::lists=$apt/lists"
        -o "Dir::State::status=$apt/status" -o "Dir::Cache::archives=$apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    apt-get "${own[@]}" update -qq
    apt-get "${own[@]}" install -y -qq --no-install-recommends --download-only \
        libc6-dev libstdc++6 libhdf5-dev libopenmpi-dev >/dev/null
    for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$here/root"; done
    touch "$here/root/complete"
fi

# Only these two: Debian's other development files name places of a whole ARM system.
mkdir -p "$here/link"
ln -sf "$root"/libmpi.so.40 "$here/link/libmpi.so"
ln -sf "$root"/libhdf5_serial.so.103 "$here/link/libhdf5.so"
cat >"$here/mpicc" <<END
#!/bin/sh
case "\$*" in
    *-show*) echo "gcc -I$root/openmpi/include -I$root/openmpi/include/openmpi -L$here/link -lmpi" ;;
    *)       exec aarch64-linux-gnu-gcc -I$root/openmpi/include -I$root/openmpi/include/openmpi "\$@" ;;
esac
END
chmod +x "$here/mpicc"

rustup target add "$target" 2>/dev/null || { echo "$0: rustup cannot add $target" >&2; exit 1; }
export CARGO_TARGET_DIR=$here/cargo MPICC=$here/mpicc LIBTORCH=$here/torch/torch
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-L $here/link -C link-arg=-Wl,--allow-shlib-undefined"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L $here/root -E LD_LIBRARY_PATH=$root:$root/blas:$root/lapack"
# Whole programs, so that they can be linked; optimised a little, as an emulator is slow.
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0
cargo build --locked --target "$target" --workspace
cargo test --locked --target "$target" --lib -- --skip two_hundred_steps native
