#!/usr/bin/env bash
# Reb1 and Abf1 over the whole yeast genome, DNA + ATAC, on held-out chromosomes, beside motif and signal.
#   EPOCHS=14 benches/yeast.sh DATA [SEEDS]    DATA holds yeast/ and motifs/; writes runs/yeast, prints a table
# Sequence: SGD R64 (sacCer3). Peaks: ChIP-exo, Rossi et al. 2021, Nature 592:309. ATAC: Schep et al. 2015, through the
# test data of MACS. Motifs: JASPAR 2018 CORE fungi. ATAC reads of the rDNA repeat (chrXII) are masked: a third of all.
set -euo pipefail
data=$1 seeds=${2:-1 2 3} out=${OUT:-runs/yeast} ranks=${RANKS:-2}
bin=target/release
mkdir -p "$out"
printf 'chrXII\t450000\t492000\n' > "$out/rdna.bed"

# Windows of 3,200 bases: a multiple of the U-Net's 32 and of the 100-base bins.
windows() { # FACTOR WIDEN FILE
    $bin/tfbind-prep make --fasta "$data/yeast/sacCer3.fa.gz" --peaks "$1=$data/yeast/peaks/$1.bed" --widen "$2" \
        --signal "ATAC=$data/yeast/signal/atac_SRR1822137_insertions_ext75.bw" --mask "$out/rdna.bed" \
        --length 3200 --valid chrVII --test chrIV,chrXI,chrXIII --out "$3"
}

for factor in Reb1 Abf1; do
    # Trained on the 30 bases around a peak; a bin of the test is bound when it holds the peak itself.
    windows $factor 15 "$out/$factor.h5"
    windows $factor 1 "$out/$factor-points.h5"
    for seed in $seeds; do
        run=$out/$factor-$seed
        rm -rf "$run"
        mpirun -np "$ranks" $bin/tfbind-mpi train --data "$out/$factor.h5" --run "$run" --seed "$seed" \
            --global-batch 8 --batch-norm rank --lr 0.002 --warmup 50 --epochs "${EPOCHS:-14}" --reverse-complement
        mpirun -np "$ranks" $bin/tfbind-mpi evaluate "$run" --data "$out/$factor-points.h5" --bin 100 \
            --motif "$data/motifs/JASPAR2018_CORE_fungi.txt#$factor" --motif-reach 0 | tee "$run/evaluation.txt"
    done
done
for factor in Reb1 Abf1; do
    for seed in $seeds; do
        sed -n "s/^ *\(.*(trained)\|.*alone\|motif + signal\)  */$factor seed $seed  \1  /p" "$out/$factor-$seed/evaluation.txt"
    done
done
