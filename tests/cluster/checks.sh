# What the cluster tests share: counting, small data, the transcript. Sourced by run.sh, with `root` and `work` set.
# shellcheck shell=bash disable=SC2154
passed=0 failed=0

# check NAME COMMAND…: one line; of a failure also what the command said. A function ends at its first failure, and runs
# in a shell of its own: what later checks need of it lies in a file.
check() {
    local name=$1; shift
    set +e
    ( set -e; "$@" ) > "$work/check" 2>&1
    result=$?
    set -e
    if [ "$result" -eq 0 ]; then
        passed=$((passed + 1)); echo "ok      $name"
    else
        failed=$((failed + 1)); echo "FAILED  $name: $*"
        tail -n 40 "$work/check" | sed 's/^/        /'
    fi
}

# says FILE PATTERN…: every pattern stands in the file, which is shown if one does not.
says() {
    local file=$1 pattern; shift
    for pattern in "$@"; do
        grep -Eq -e "$pattern" "$file" || { echo "no line with $pattern in:"; tail -n 25 "$file"; return 1; }
    done
}

# until_true SECONDS COMMAND…: waits for it.
until_true() {
    local end=$((SECONDS + $1)); shift
    until "$@" 2> /dev/null; do
        [ $SECONDS -lt $end ] || { echo "not within the time: $*"; return 1; }
        sleep 0.3
    done
}

# show COMMAND…: as typed and as answered, for the transcript. Without the names and folders of this machine.
show() {
    note "\$ $*"
    "$@" 2>&1 | tee >(portable >> "$transcript")
}
note() { printf '%s\n' "$*" | portable >> "$transcript"; }
portable() { sed -e "s|$work/||g; s|$work|.|g; s|$root/||g; s|$root|.|g; s|\b$(hostname)\b|batchnode|g"; }

# A genome of four contigs, 192 windows to train on.
small_data() {
    "$root/target/release/tfbind-prep" simulate --out "$work/genome" --contigs 4 --contig-length 100000
    "$root/target/release/tfbind-prep" make --fasta "$work/genome/genome.fa" --signal DNase="$work/genome/dnase.bigWig" \
        --peaks CTCF="$work/genome/ctcf.narrowPeak" --widen 25 --length 1024 --valid sim3 --test sim4 --out "$work/data.h5"
}

# The losses of the steps of a run; a step that was done again counts once, as it was done last.
losses() {
    sed -n '/"event":"step"/s/.*"loss":\([^,]*\),.*"step":\([0-9]*\).*/\2 \1/p' "$1/metrics.jsonl" \
        | awk '{ of[$1] = $2 } END { for (step in of) print step, of[step] }' | sort -n
}

last_logged() { losses "$work/$1" | tail -n 1 | cut -d' ' -f1; }

# same_losses RUN RUN TOLERANCE: the same steps, and no loss further from the other than this share of it.
same_losses() {
    paste <(losses "$1") <(losses "$2") | awk -v most="$3" '
        { away = ($2 - $4) / $2; if (away < 0) away = -away; if (away > worst) worst = away }
        NF != 4 || $1 != $3 || $2 != $2 + 0 || away > most { print "not the same:", $0; bad = 1 }
        END { print NR, "steps, furthest apart by", worst; exit bad || NR < 24 }'
}
