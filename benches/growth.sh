#!/usr/bin/env bash
# Time and peak memory against batch, length, width, windows in the file and ranks: a table and a picture in OUT.
#   benches/growth.sh [--engine libtorch|native] [--only batch,ranks] [--repeats 5] [--fewer 2]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/growth} bin=${BIN:-target/release}
program() { cargo bench --locked --bench "$1" --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p'; }
step=$(program step) growth=$(program growth)
if [ ! -x "$step" ] || [ ! -x "$growth" ]; then echo "growth: the benches do not build" >&2; exit 1; fi
data=$out/few.h5
if [ ! -e "$data" ]; then
    mkdir -p "$out"
    "$bin/tfbind-prep" simulate --out "$out/genome" --contig-length 100000 > /dev/null
    "$bin/tfbind-prep" make --fasta "$out/genome/genome.fa" --signal DNase="$out/genome/dnase.bigWig" \
        --peaks CTCF="$out/genome/ctcf.narrowPeak" --length 1024 --valid sim9 --test sim10 --out "$data" > /dev/null
fi
"$growth" --step "$step" --train "$bin/tfbind-mpi" --data "$data" --out "$out" "$@"
