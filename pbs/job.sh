# The body of every job file: sourced by it, then one call (train_job, prep_job, ...) with the file's name.
# shellcheck shell=bash disable=SC2034,SC2154  # its parts share its variables

set -euo pipefail

# The folder that holds pbs/ and modules/: the root of the checkout, or what make install made.
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for part in settings batch stage report; do
    # shellcheck source=/dev/null
    . "$home/pbs/$part.sh"
done

say() { echo "$job_file: $*"; }

# Reads settings, finds what the batch system gave, and loads the site's modules.
begin() {
    job_file=$1
    SECONDS=0 child='' signalled=''
    cd "${PBS_O_WORKDIR:-$PWD}" || fail "the folder it was submitted from is not there: $PBS_O_WORKDIR"
    read_settings
    find_job
    load_site
    find_ranks
    # So many seconds before the wall time ends ranks save and stop: a tenth of it, five minutes at most.
    margin=${MARGIN:-$((${wall_seconds:-0} / 10 < 300 ? ${wall_seconds:-0} / 10 : 300))}
    is_count "$margin" || fail "MARGIN=$margin is no number of seconds"
    where=()
    [ ${#hosts[@]} -eq 1 ] || where=(--hostfile "$nodefile")
    local name
    for name in PATH LD_LIBRARY_PATH LIBTORCH; do
        [ -z "${!name:-}" ] || where+=(-x "$name")
    done
    launch=(mpirun -np "$ranks" "${mapping[@]}" "${where[@]}")
    on_each_host=(mpirun -np "${#hosts[@]}" --map-by ppr:1:node --bind-to none "${where[@]}")
    # After SIGTERM Open MPI gives ranks one second, too few for a large step and a checkpoint.
    export OMPI_MCA_odls_base_sigkill_timeout=20 PRTE_MCA_odls_base_sigkill_timeout=20
    # mpirun waits for ever for a host that is cut off while it has something to tell it, such as that the job ends. Its
    # keepalive finds the host out before: 30 + 3 x 10 s of silence here, 480 s by default.
    export OMPI_MCA_oob_tcp_keepalive_time=30 OMPI_MCA_oob_tcp_keepalive_intvl=10 OMPI_MCA_oob_tcp_keepalive_probes=3
    trap 'on_signal USR1' USR1
    trap 'on_signal TERM' TERM
    trap clean_up EXIT
    say "job $job_id: $ranks ranks on ${#hosts[@]} hosts (${hosts[*]}), $cores_per_rank cores each, $gpus GPUs in all"
}

# modules/SITE: the one named, or the one whose name the host's name or the distribution's begins with.
load_site() {
    local file found='' names
    # shellcheck source=/dev/null
    names="$(hostname) $(. /etc/os-release && echo "$ID ${ID_LIKE:-}")"
    for file in "$home"/modules/*; do
        [[ " $names" != *" ${file##*/}"* ]] || found=${found:-${file##*/}}
    done
    SITE=${SITE:-$found}
    [ -n "$SITE" ] || fail "no file in $home/modules is called like this host ($names): name one, SITE=..."
    [ -r "$home/modules/$SITE" ] || fail "SITE=$SITE: there is no $home/modules/$SITE"
    local from=$PWD
    cd "$home"
    # Site files are read as a user's shell would: module functions fail under set -eu.
    set +eu
    # shellcheck source=/dev/null
    . "modules/$SITE" || exit 2
    set -eu
    cd "$from"
    PATH=$home/target/release:$home/bin:$PATH
    LD_LIBRARY_PATH=${LIBTORCH:+$LIBTORCH/lib:}${LD_LIBRARY_PATH:-}
    export PATH LD_LIBRARY_PATH
    command -v tfbind-mpi >/dev/null || fail "no tfbind-mpi in $home/target/release, $home/bin or on PATH: make build"
}

# A signal to the job: ranks save at the end of their step and stop. mpirun passes SIGUSR1 on to them as it is.
on_signal() {
    signalled=$1
    say "SIG$1 after $SECONDS s: saving and stopping"
    [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null || true
}

# Runs a command to its end whatever signals come meanwhile; its code is in `code`.
watch() {
    "$@" &
    child=$!
    while true; do
        code=0
        wait "$child" || code=$?
        # 128 and more may be of the wait that a signal ended, not of the command.
        { [ "$code" -gt 128 ] && kill -0 "$child" 2>/dev/null; } || break
    done
    child=''
}

# Ranks are warned in time before the wall time ends, where that is known.
until_margin() {
    local left=$((${wall_seconds:-0} - margin - SECONDS))
    if [ -z "$wall_seconds" ]; then
        say "wall time unknown: saving only when a signal comes"
        watch "$@"
    elif [ "$left" -le 0 ]; then
        say "no time left to train: $wall_seconds s of wall time, $SECONDS s gone, $margin s kept back"
        code=75
    else
        watch timeout --foreground --preserve-status --signal=USR1 "$left" "$@"
    fi
}

# Step of the last checkpoint, 0 where there is none: from the JSON with which a safetensors file begins.
last_step() {
    local file=$RUN/last.safetensors
    if [ -e "$file" ]; then
        head -c 65536 "$file" | tr -d '\\\0' | grep -ao '"progress":{"step":[0-9]*' | head -n 1 | grep -o '[0-9]*$'
    else
        echo 0
    fi
}

# Of two jobs in one run folder each would undo what the other does.
claim_run() {
    local holder=''
    mkdir -p "$RUN/job"
    [ ! -e "$RUN/job/running" ] || holder=$(<"$RUN/job/running")
    if [ -n "$holder" ] && [ "$holder" != "$job_id" ] && command -v qstat >/dev/null; then
        ! qstat -f "$holder" 2>/dev/null | grep -q 'job_state = R' || fail "job $holder is at work in $RUN"
    fi
    claimed=$RUN/job/running
    echo "$job_id" >"$claimed"
}

train_job() {
    begin "$1"
    [ -n "${DATA:-}" ] || fail "DATA is not given: qsub -v DATA=FILE.h5,RUN=FOLDER pbs/$job_file, or in the settings file"
    [ -r "$DATA" ] || fail "DATA=$DATA: cannot be read on $(hostname)${STORAGE:+ with storage $STORAGE}"
    RUN=${RUN:-runs/$(basename "$DATA" .h5)}
    DATA=$(realpath "$DATA") RUN=$(realpath -m "$RUN")
    [[ $RUN != *[[:space:],]* ]] || fail "RUN=$RUN: qsub passes on no names with blanks or commas"
    claim_run
    stage
    device=()
    [ -z "${DEVICE:-}" ] || device=(--device "$DEVICE")
    watch "${launch[@]}" tfbind-mpi doctor --data "$data" --run "$RUN" "${device[@]}"
    [ -z "$signalled" ] || fail "stopped by SIG$signalled before training began: qsub goes on"
    [ "$code" -eq 0 ] || fail "doctor found what is wrong (see above): nothing was trained"
    train_once
    go_on
}

# Trains, and evaluates when that is done. `ended` says how it went, `code` is the job's.
train_once() {
    local -a options=()
    read -ra options <<<"${TRAIN:-}"
    first_step=$(last_step)
    if [ -e "$RUN/last.safetensors" ]; then
        without_from "${options[@]}"
        options+=(--resume)
    fi
    start_gpu_samples
    until_margin "${launch[@]}" tfbind-mpi train --data "$data" --run "$RUN" "${device[@]}" "${options[@]}"
    stop_gpu_samples
    ended=failed
    if [ "$code" -eq 0 ]; then
        watch "${launch[@]}" tfbind-mpi evaluate "$RUN" --data "$data" "${device[@]}"
        [ "$code" -ne 0 ] || ended='done'
    fi
    # Open MPI's mpirun returns 1 after SIGTERM, though the ranks have saved.
    [[ $code -ne 75 && -z $signalled ]] || ended=stopped
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

# Writes down what this job did, and submits the next one if there is more to do.
go_on() {
    local bound=${MAX_RESUBMITS:-10} count next
    is_count "$bound" || fail "MAX_RESUBMITS=$bound is no number"
    last=$(last_step)
    count=$(resubmits)
    case $ended in
        'done') outcome="done" ;;
        failed) outcome="failed with code $code (see above): not submitted again" ;;
        stopped)
            code=75
            if [ "$signalled" = TERM ] && is_deleted; then
                outcome="deleted: saved, not submitted again; qsub goes on"
            elif [ "$last" -le "$first_step" ]; then
                outcome="no step was saved in this job: not submitted again; ask for a longer wall time or less data a step"
            elif [ "$count" -ge "$bound" ]; then
                outcome="stopped after $count resubmissions (MAX_RESUBMITS=$bound): qsub goes on"
            elif next=$(submit_again); then
                outcome="wall time: goes on in job $next"
            else
                outcome="wall time, and qsub failed ($next): submit it again yourself"
            fi ;;
    esac
    report
    exit "$code"
}

clean_up() {
    stop_gpu_samples
    end_stage
    [ -z "${claimed:-}" ] || rm -f "$claimed"
}
