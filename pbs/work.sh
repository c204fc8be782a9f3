# What the jobs do: train, sweep, prep, scaling. Part of job.sh.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # job.sh and its parts share variables

# Step of the last checkpoint, 0 where there is none: from the JSON with which a safetensors file begins.
last_step() {
    local file=$run/last.safetensors
    if [ -e "$file" ]; then
        head -c 65536 "$file" | tr -d '\\\0' | grep -ao '"progress":{"step":[0-9]*' | grep -o '[0-9]*$' \
            || fail "$file: no checkpoint of this program: give another RUN"
    else
        echo 0
    fi
}

# Of two jobs in one run folder each would undo what the other does.
claim_run() {
    local holder=''
    mkdir -p "$run/job"
    [ ! -e "$run/job/running" ] || holder=$(<"$run/job/running")
    if [ -n "$holder" ] && [ "$holder" != "$job_id" ]; then
        ! grep -q 'job_state = R' <<<"$(facts_of "$holder")" || fail "job $holder is at work in $run"
    fi
    claimed=$run/job/running
    echo "$job_id" >"$claimed"
}

ask_doctor() {
    watch "$@"
    [ -z "$signalled" ] || fail "stopped by SIG$signalled before the work began: submit it again"
    [ "$code" -eq 0 ] || fail "doctor found what is wrong (see above): nothing was done"
}

train_job() {
    begin "$1" ''
    train "${TRAIN:-}"
}

# One job of an array trains with the line of SWEEP that has its index, in a folder of its own.
sweep_job() {
    begin "$1" sweep
    local line
    [ -n "$array_index" ] || fail "PBS_ARRAY_INDEX is not set: this is an array, qsub -J 1-8 $job_file"
    [ -r "${SWEEP:-}" ] || fail "SWEEP=${SWEEP:-}: give the file with a line of train options for each job of the array"
    line=$(sed -n "${array_index}p" "$SWEEP")
    if [ "$array_index" -gt "$(awk 'END { print NR }' "$SWEEP")" ]; then
        say "$SWEEP has no line $array_index: nothing to do"
        exit 0
    fi
    run=$RUN/$array_index
    train "${TRAIN:-} $line"
}

train() {
    [ -r "$DATA" ] || fail "DATA=$DATA: cannot be read on $(hostname); does the job see that file system (STORAGE)?"
    claim_run
    first_step=$(last_step)
    stage
    ask_doctor "${launch[@]}" tfbind-mpi doctor --data "$data" --run "$run" "${device[@]}"
    train_once "$1"
    go_on
}

# Trains, and evaluates when that is done. `ended` says how it went, `code` is the job's.
train_once() {
    local -a options=()
    local contents
    read -ra options <<<"$1"
    if [ -e "$run/last.safetensors" ]; then
        without_from "${options[@]}"
        options+=(--resume)
    fi
    start_gpu_samples
    until_margin "${launch[@]}" tfbind-mpi train --data "$data" --run "$run" "${device[@]}" "${options[@]}"
    stop_gpu_samples
    ended=failed split=test
    if [ "$code" -eq 0 ]; then
        # A file may have been made without test windows.
        contents=$(tfbind-prep inspect "$data" 2>/dev/null | grep -o '^[a-z]*:') || contents=test:
        [[ $contents == *test:* ]] || split=valid
        watch "${launch[@]}" tfbind-mpi evaluate "$run" --data "$data" --split "$split" "${device[@]}"
        [ "$code" -ne 0 ] || ended='done'
    fi
    # Open MPI's mpirun returns 1 after SIGTERM, though the ranks have saved.
    [[ $ended == 'done' || ($code -ne 75 && -z $signalled) ]] || ended=stopped
}

# A run that goes on has its settings in the checkpoint; --from would begin another.
without_from() {
    options=()
    while [ $# -gt 0 ]; do
        case $1 in
            --from) shift ;;
            --from=*) ;;
            *) options+=("$1") ;;
        esac
        shift || true
    done
}

# Says how the job ended, and submits the next one if there is more to do.
go_on() {
    local count next
    last=$(last_step) count=$(resubmits)
    case $ended in
        'done') outcome='done' ;;
        failed) outcome="failed with code $code (see above): not submitted again" ;;
        stopped)
            code=75
            if [ "$signalled" = TERM ] && is_deleted; then
                outcome="deleted: saved, not submitted again; qsub goes on"
            elif [ "$last" -le "$first_step" ]; then
                outcome="no step was saved in this job: not submitted again; give it a longer wall time"
            elif [ "$count" -ge "$bound" ]; then
                outcome="stopped after $count resubmissions (MAX_RESUBMITS=$bound): qsub goes on"
            elif next=$(submit_again); then
                outcome="wall time: goes on in job $next"
            else
                outcome="wall time, and qsub failed (${next:-see above}): submit it again"
            fi ;;
    esac
    report
    exit "$code"
}

# Genome files to DATA. No MPI, no GPU; begins anew where it was cut.
prep_job() {
    begin "$1" prep
    [ -n "${PREP:-}" ] || fail "PREP is not given: the options of tfbind-prep make, such as --fasta hg38.fa --peaks CTCF=a.narrowPeak"
    [ ! -e "$DATA" ] || fail "DATA=$DATA is there already: remove it, or name another"
    local -a options=()
    read -ra options <<<"$PREP"
    claim_run
    ask_doctor tfbind-mpi doctor --run "$(dirname "$DATA")" --device cpu
    first_step=0 last=0 data=$DATA
    watch tfbind-prep make "${options[@]}" --out "$DATA"
    outcome="failed with code $code (see above)"
    [ "$code" -ne 0 ] || outcome='done'
    report "$(tfbind-prep inspect "$DATA" 2>/dev/null | grep '^[a-z]*: .* windows')"
    exit "$code"
}

# 1, 2, 4, ... ranks up to those of the job, and all of them; fewer ranks lie as densely as all. A study that was cut
# short goes on in another job, for which data and hosts have to have the same names there.
scaling_job() {
    begin "$1" scaling
    [ -r "$DATA" ] || fail "DATA=$DATA: cannot be read on $(hostname); does the job see that file system (STORAGE)?"
    local -a options=() settings=() list=()
    local count rate mpirun
    read -ra options <<<"${SCALING:-}"
    read -ra settings <<<"${TRAIN:-}"
    for ((count = 1; count < ranks; count *= 2)); do list+=("$count"); done
    list+=("$ranks")
    rate=$(charge_rate)
    [ -z "$rate" ] || options+=(--su-rate "$rate" --cpus-per-rank "$((cpus / ranks))")
    claim_run
    stage
    ask_doctor "${launch[@]}" tfbind-mpi doctor --data "$data" --run "$run" "${device[@]}"
    ln -sfn "$data" "$run/job/data.h5"
    cp "$nodefile" "$run/job/hosts"
    mpirun="mpirun ${mapping[*]} ${where[*]}"
    mpirun=${mpirun/"$nodefile"/"$run/job/hosts"}
    first_step=0 last=0
    start_gpu_samples
    watch tfbind-mpi bench scaling --ranks "$(IFS=,; echo "${list[*]}")" --data "$run/job/data.h5" --out "$run/study" \
        --mpirun "$mpirun" "${options[@]}" -- "${device[@]}" "${settings[@]}"
    stop_gpu_samples
    ln -sfn "$DATA" "$run/job/data.h5"
    outcome="failed with code $code (see above)"
    [ -z "$signalled" ] || outcome="stopped by SIG$signalled: qsub goes on"
    [ "$code" -ne 0 ] || outcome='done'
    report "$(study_table)"
    exit "$code"
}
