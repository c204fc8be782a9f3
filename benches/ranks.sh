#!/usr/bin/env bash
# What training together costs: two ranks against two independent processes, one core each, alternating.
#   benches/ranks.sh [ROUNDS] [BATCH] [LENGTH]    writes runs/ranks, prints samples/s of each round, the medians, the table
# Both sides take the same steps on as many windows; neither evaluates. The machine has to be idle.
set -euo pipefail
rounds=${1:-9} batch=${2:-8} length=${3:-2048} out=${OUT:-runs/ranks} bin=${BIN:-target/release} steps=${STEPS:-100}
mkdir -p "$out"
data=$out/data-$length.h5
if [ ! -e "$data" ]; then
    [ -e "$out/genome" ] || "$bin/tfbind-prep" simulate --out "$out/genome" > /dev/null
    "$bin/tfbind-prep" make --fasta "$out/genome/genome.fa" --signal DNase="$out/genome/dnase.bigWig" \
        --peaks CTCF="$out/genome/ctcf.narrowPeak" --length "$length" --valid sim9 --test sim10 --out "$data" > /dev/null
fi
common="--data $data --batch $batch --epochs 1000 --eval-every 1000000 --stop-at $steps --threads 1 --device cpu"
speed() { sed -n 's/^samples_per_s //p' "$@"; }
for round in $(seq "$rounds"); do
    rm -rf "$out"/alone-? "$out"/both
    # shellcheck disable=SC2086 # many words
    for core in 0 1; do
        taskset -c $core "$bin/tfbind-mpi" train --run "$out/alone-$core" $common > "$out/alone-$core.txt" &
    done
    wait
    # shellcheck disable=SC2086
    mpirun -np 2 --bind-to core "$bin/tfbind-mpi" train --run "$out/both" $common > "$out/both.txt"
    alone=$(speed "$out"/alone-0.txt "$out"/alone-1.txt | awk '{ sum += $1 } END { print sum }')
    both=$(speed "$out/both.txt")
    echo "round $round: two processes $alone samples/s, two ranks $both, ratio $(awk "BEGIN { print $both / $alone }")"
done | tee "$out/rounds.txt"
middle() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
echo "median of $rounds rounds: two processes $(sed 's/.*processes \([0-9.]*\).*/\1/' "$out/rounds.txt" | middle) samples/s," \
    "two ranks $(sed 's/.*ranks \([0-9.]*\),.*/\1/' "$out/rounds.txt" | middle)," \
    "ratio $(sed 's/.*ratio //' "$out/rounds.txt" | middle)"
echo "the last round's two ranks:"
sed -n '/median_ms/,/lost_to_waiting/p' "$out/both.txt"
