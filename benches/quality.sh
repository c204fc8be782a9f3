#!/usr/bin/env bash
# What more ranks do to a model's quality: a small simulated CTCF set, 1 2 4 8 ranks, five recipes, three seeds.
#   benches/quality.sh [SEEDS] [RANKS]    writes runs/quality, prints a table; results so far are kept and not redone
#   naive   as scripts for Horovod do it: batch a rank, rate times ranks, no warm-up, stops after 3 epochs without a
#           better mean of the ranks' own PR-AUCs, running statistics of rank 0
#   fixed   the same global batch and rate on any number of ranks, warm-up in steps, cosine decay, pooled PR-AUC, running
#           statistics averaged, but batch norm over each rank's windows alone: one window on 8 ranks
#   linear, invariant   8 windows a rank, rate times ranks, warm-up, pooled PR-AUC: with Adam, and with Adam that sees the
#           squares of each micro-batch's gradient instead of the square of their mean
#   sync    the default: as fixed, with batch norm over all ranks' windows: to rounding the same run on any number of ranks
set -euo pipefail
seeds=${1:-1 2 3} sizes=${2:-1 2 4 8} out=${OUT:-runs/quality} bin=${BIN:-target/release} epochs=${EPOCHS:-8}
mkdir -p "$out"
if [ ! -e "$out/data.h5" ]; then
    "$bin/tfbind-prep" simulate --out "$out/genome" --contig-length 300000 --seed 7
    "$bin/tfbind-prep" make --fasta "$out/genome/genome.fa" --signal DNase="$out/genome/dnase.bigWig" \
        --peaks CTCF="$out/genome/ctcf.narrowPeak" --widen 25 --length 2048 \
        --valid sim8 --test sim9,sim10 --out "$out/data.h5"
fi
declare -A recipe=(
    [naive]="--batch 8 --warmup 0 --schedule none --batch-norm rank0 --metric rank_mean_pr_auc --patience 3"
    [fixed]="--global-batch 8 --batch-norm rank"
    [sync]="--global-batch 8 --sync-bn"
    [linear]="--batch 8"
    [invariant]="--batch 8 --optimizer adam-invariant"
)
table=$out/quality.csv
[ -e "$table" ] || echo recipe,ranks,seed,steps,pr_auc > "$table"
for name in ${RECIPES:-naive fixed sync linear invariant}; do for seed in $seeds; do for ranks in $sizes; do
    grep -q "^$name,$ranks,$seed," "$table" && continue
    run=$out/$name-$ranks-$seed
    rm -rf "$run" && mkdir -p "$run"
    # shellcheck disable=SC2086 # a recipe is many words
    mpirun -np "$ranks" "$bin/tfbind-mpi" train --data "$out/data.h5" --run "$run" --epochs "$epochs" --lr 0.002 \
        --seed "$seed" --device cpu --threads 1 ${recipe[$name]} > "$run/train.txt"
    mpirun -np "$ranks" "$bin/tfbind-mpi" evaluate "$run" --device cpu > "$run/evaluation.txt"
    echo "$name,$ranks,$seed,$(sed -n 's/^steps //p' "$run/train.txt"),$(sed -n 's/^pr_auc //p' "$run/evaluation.txt")" \
        | tee -a "$table"
done; done; done
awk -F, 'NR > 1 { key = $1 "," $2; n[key]++; steps[key] += $4; sum[key] += $5; all[key] = all[key] " " $5 }
    END { for (key in n) printf "%s,%d,%.4f,%s\n", key, steps[key] / n[key], sum[key] / n[key], all[key] }' "$table" \
    | sort -t, -k1,1 -k2,2n | awk -F, 'BEGIN { print "recipe    ranks  steps  mean pr_auc  each seed" }
    { printf "%-9s %5d %6d  %11s %s\n", $1, $2, $3, $4, $5 }'
