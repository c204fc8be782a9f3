#!/usr/bin/env bash
# Does anything but the engine cost time? One rank on core 0: loader, start, waiting for data, evaluation, checkpoints.
#   benches/path.sh [--engine auto|libtorch|native]     writes runs/path; one line a target, met or not
# OUT, BIN, STEPS and CONTIG (bases of each of ten simulated contigs) change folder, programs and sizes.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/path} bin=${BIN:-target/release} steps=${STEPS:-100} contig=${CONTIG:-1200000} batch=8
engine=("$@")
program() { cargo bench --locked --bench "$1" --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p'; }
step=$(program step) loader=$(program loader)
if [ ! -x "$step" ] || [ ! -x "$loader" ]; then echo "path: the benches do not build" >&2; exit 1; fi

data=$out/data.h5
if [ ! -e "$data" ]; then
    mkdir -p "$out"
    "$bin/tfbind-prep" simulate --out "$out/genome" --contig-length "$contig" > /dev/null
    "$bin/tfbind-prep" make --fasta "$out/genome/genome.fa" --signal DNase="$out/genome/dnase.bigWig" \
        --peaks CTCF="$out/genome/ctcf.narrowPeak" --valid sim9 --test sim10 --out "$data" > /dev/null
fi
one() { OMP_NUM_THREADS=1 taskset -c 0 "$@"; }
count=0 all=0
# line NAME TEXT VALUE OPERATOR TARGET
line() {
    local met="not met"
    all=$((all + 1))
    if awk "BEGIN { exit !($3 $4 $5) }"; then met=met count=$((count + 1)); fi
    printf '%-12s %-78s %s %s  %s\n' "$1" "$2" "$4" "$5" "$met"
}
calc() { awk "BEGIN { printf \"$1\", $2 }"; }
# Of a phase, from the table of the timeline.
share() { awk -v phase="$1" '$1 == phase && $4 ~ /%$/ { sub("%", "", $4); print $4 }' "$2"; }
speed() { sed -n 's/^[a-z]*: \([0-9.]*\) samples.*/\1/p'; }

consumes=$(one "$step" --batch $batch "${engine[@]}" | tee "$out/step.txt" | speed)
inference=$(one "$step" --batch 64 --repeats 5 --inference "${engine[@]}" | tee "$out/inference.txt" | speed)

one "$loader" --data "$data" --consumes "$consumes" > "$out/loader.txt"
reads=$(sed -n 's/^loader: \([0-9]*\) .*/\1/p' "$out/loader.txt")
line loader "$reads samples/s, $(calc %.1f "$reads / $consumes")x what the engine consumes ($consumes)" \
    "$reads / $consumes" ">=" 10

common=(--data "$data" --batch "$batch" --threads 1 --device cpu "${engine[@]}")
# The log's last line is that of the first step: its time is when that ended.
for _ in 1 2 3; do
    rm -rf "$out/first"
    began=$(date +%s.%N)
    one "$bin/tfbind-mpi" train --run "$out/first" "${common[@]}" --stop-at 1 > "$out/first.txt"
    calc '%.3f\n' "$(stat -c %.Y "$out/first/metrics.jsonl") - $began"
done | sort -g > "$out/first.s"
first=$(sed -n 2p "$out/first.s")
line first_step "$first s from the start of the program to the end of its first step" "$first" "<" 1

rm -rf "$out/run"
one "$bin/tfbind-mpi" train --run "$out/run" "${common[@]}" --stop-at "$steps" --eval-every 1000000 > "$out/run.txt"
waits=$(share data "$out/run.txt")
line data_wait "$waits % of the time of $steps steps" "$waits" "<" 1

# Two splits of different size: the difference is windows alone, without the start.
num() { sed -n "s/^$1 //p" "$out/windows.txt"; }
for split in train test; do
    began=$(date +%s.%N)
    one "$bin/tfbind-mpi" evaluate "$out/run" --split "$split" --threads 1 --device cpu \
        "${engine[@]}" > "$out/evaluate-$split.txt"
    echo "$split $(calc %.3f "$(date +%s.%N) - $began")"
done > "$out/windows.txt"
more=$("$bin/tfbind-prep" inspect "$data" | awk '$1 == "train:" { a = $2 } $1 == "test:" { b = $2 } END { print a - b }')
evaluates=$(calc %.1f "$more / ($(num train) - $(num test))")
line evaluation "$evaluates samples/s, $(calc %.2f "$evaluates / $inference") of inference alone ($inference)" \
    "$evaluates / $inference" ">=" 0.9

rm -rf "$out/epoch"
one "$bin/tfbind-mpi" train --run "$out/epoch" "${common[@]}" --epochs 1 > "$out/epoch.txt"
saving=$(share checkpoint "$out/epoch.txt")
line checkpoint "$saving % of the time of an epoch of $(sed -n 's/^steps //p' "$out/epoch.txt") steps" "$saving" "<" 1
echo "path: $count of $all met"
