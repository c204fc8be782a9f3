# What the jobs do: train, sweep, prep, scaling. Part of job.sh.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # job.sh and its parts share variables

# Step of the last checkpoint, of a sweep those of all its trials together; 0 where there is none. From the JSON with which
# a safetensors file begins.
last_step() {
    local file step sum=0
    for file in "$run"/last.safetensors "$run"/trial-*/last.safetensors; do
        [ -e "$file" ] || continue
        step=$(head -c 65536 "$file" | tr -d '\\\0' | grep -ao '"progress":{"step":[0-9]*' | grep -o '[0-9]*$') \
            || fail "$file: no checkpoint of this program: give another RUN"
        sum=$((sum + step))
    done
    echo "$sum"
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

# Trains, and evaluates when that is done.
train_job() {
    begin "$1" ''
    prepare
    local contents
    if [ -e "$run/last.safetensors" ]; then
        without_from "${options[@]}"
        options+=(--resume)
    fi
    split="test"
    work train --run "$run"
    if [ "$ended" = 'done' ]; then
        # A file may have been made without test windows.
        contents=$(tfbind-prep inspect "$data" 2>/dev/null | grep -o '^[a-z]*:') || contents=test:
        [[ $contents == *test:* ]] || split=valid
        watch "${launch[@]}" tfbind-mpi evaluate "$run" --data "$data" --split "$split" "${device[@]}"
        end_of_work
    fi
    go_on training
}

# Every trial of SWEEP, on groups of the job's ranks.
sweep_job() {
    begin "$1" sweep
    [ -r "${SWEEP:-}" ] || fail "SWEEP=${SWEEP:-}: give the file that says what is tried (tfbind-mpi sweep --help shows one)"
    prepare
    work sweep "$SWEEP" --run "$run"
    go_on sweep_table
}

# Up to the doctor's word; `options` are those of TRAIN.
prepare() {
    [ -r "$DATA" ] || fail "DATA=$DATA: cannot be read on $(hostname); does the job see that file system (STORAGE)?"
    claim_run
    first_step=$(last_step)
    stage
    ask_doctor "${launch[@]}" tfbind-mpi doctor --data "$data" --run "$run" "${device[@]}"
    read -ra options <<<"${TRAIN:-}"
    # The run remembers where the data stay, not the copy on this job's disks.
    [ "$data" = "$DATA" ] || options+=(--data-copy "$data")
}

# What ranks do until the wall time: work COMMAND.
work() {
    start_gpu_samples
    until_margin "${launch[@]}" tfbind-mpi "$@" --data "$DATA" "${device[@]}" "${options[@]}"
    stop_gpu_samples
    end_of_work
}

# `ended` says how it went, `code` is the job's.
end_of_work() {
    ended=failed
    [ "$code" -ne 0 ] || ended='done'
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

# Says how the job ended, and submits the next one if there is more to do: go_on WHAT_IT_SHOWS.
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
    report "$("$1")"
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
