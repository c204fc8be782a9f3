#!/usr/bin/env bash
# The training step on a GPU beside PyTorch, on a machine that has python3 with torch but no Rust, MPI or HDF5. What is
# carried: what packaging/portable.sh gathers, and the bench `gpu`, which steps the program's trainer, loader and engine.
#   benches/gpu/run.sh HOST           carry the program there by ssh, run, bring the page to benches/results
#   benches/gpu/run.sh --pack FOLDER  only gather what is carried, for a queue system; run FOLDER/benches/gpu/table.py
#   benches/gpu/run.sh --here         run on this machine
# What follows goes to table.py: --batches 8,64 --rounds 3 --minutes 25 --only bf16. Without a GPU: --here --device cpu --tiny --out target.
# LIBTORCH names the libtorch to build with; the one that runs is that of python3's torch, of the same version.
set -euo pipefail
cd "$(dirname "$0")/../.."
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 1 ] || usage
whole="benches/gpu/run.sh $*"
where=$1; shift

pack() {
    local here=$1/benches/gpu gpu
    cargo build --release --locked --workspace --bins --bench gpu
    gpu=$(cargo build --release --locked --workspace --bench gpu --message-format json 2>/dev/null \
        | sed -n 's/.*"name":"gpu".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [ -x "$gpu" ] || { echo "$0: cargo names no program for the bench gpu" >&2; exit 1; }
    cp -f "$gpu" target/release/gpu
    packaging/portable.sh "$1" target/release/gpu
    mkdir -p "$here" "$1/benches/peers"
    cp benches/gpu/*.py "$here"
    cp benches/peers/unet.py "$1/benches/peers"
    packaging/version >"$here/commit"
    du -sh "$1" | cut -f1 | sed 's/$/ to carry/'
}

case $where in
    --pack) [ $# -eq 1 ] || usage
            pack "$1" ;;
    --here) pack target/gpu
            python3 target/gpu/benches/gpu/table.py --out benches/results --command "$whole" "$@" ;;
    -*)     usage ;;
    *)      pack target/gpu
            there=$(ssh "$where" mktemp -d)
            # shellcheck disable=SC2029 # the folder is known here
            trap 'ssh "$where" rm -r "$there"' EXIT
            tar -C target/gpu -cz . | ssh "$where" tar -C "$there" -xz
            status=0
            # shellcheck disable=SC2029 # the words are meant to be split here
            ssh "$where" python3 "$there/benches/gpu/table.py" --out "$there/results" --command "'$whole'" "$@" || status=$?
            scp -q "$where:$there/results/*" benches/results/ || status=1
            exit "$status" ;;
esac
