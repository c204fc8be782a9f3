# The body of every job file, which sources it and calls one of prep_job, train_job, scaling_job and sweep_job with its
# own name. The batch system runs a copy of a job file that does not know where it came from.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # its parts share its variables

set -euo pipefail

# The folder that holds pbs/ and modules/: the root of the checkout, or what make install made.
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for part in settings batch stage work report; do
    # shellcheck source=/dev/null
    . "$home/pbs/$part.sh"
done

# Reads settings, finds what the batch system gave, and loads the site's modules. begin JOBFILE KIND
begin() {
    job_file=$1
    SECONDS=0 child='' signalled='' claimed='' staged='' code=0
    cd "${PBS_O_WORKDIR:-$PWD}" || fail "the folder it was submitted from is not there: $PBS_O_WORKDIR"
    read_settings
    find_job
    find_run "$2"
    run=$RUN
    load_site
    find_ranks
    # So many seconds before the wall time ends ranks save and stop.
    margin=${MARGIN:-$((${wall_seconds:-0} / 10 < 300 ? ${wall_seconds:-0} / 10 : 300))}
    is_count "$margin" || fail "MARGIN=$margin is no number of seconds"
    bound=${MAX_RESUBMITS:-10}
    is_count "$bound" || fail "MAX_RESUBMITS=$bound is no number"
    device=()
    [ -z "${DEVICE:-}" ] || device=(--device "$DEVICE")
    lay_out
    trap 'on_signal USR1' USR1
    trap 'on_signal TERM' TERM
    trap clean_up EXIT
    say "job $job_id: $ranks ranks on ${#hosts[@]} hosts (${hosts[*]}), $cores_per_rank cores each, $gpus GPUs in all"
    if [ "$gpus" -gt 0 ] && [ -z "${DEVICE:-}" ] && ! command -v nvidia-smi >/dev/null; then
        say "$gpus GPUs were asked for and $(hostname) has no nvidia-smi: --device auto decides (DEVICE=cuda makes it an error)"
    fi
}

# `launch` starts a program on all ranks, `on_each_host` one on each host.
lay_out() {
    local name
    where=()
    [ ${#hosts[@]} -eq 1 ] || where=(--hostfile "$nodefile")
    for name in PATH LD_LIBRARY_PATH LIBTORCH; do
        [ -z "${!name:-}" ] || where+=(-x "$name")
    done
    launch=(mpirun -np "$ranks" "${mapping[@]}" "${where[@]}")
    on_each_host=(mpirun -np "${#hosts[@]}" --map-by ppr:1:node --bind-to none "${where[@]}")
    # After SIGTERM Open MPI gives ranks one second, too few for a long step and a checkpoint. It waits as long, twice,
    # whenever ranks end with a code such as that of a run to go on with.
    export OMPI_MCA_odls_base_sigkill_timeout=${OMPI_MCA_odls_base_sigkill_timeout:-5}
    export PRTE_MCA_odls_base_sigkill_timeout=$OMPI_MCA_odls_base_sigkill_timeout
    # mpirun waits for ever for a host that is cut off while it has something to tell it, such as that the job ends. Its
    # keepalive finds the host out before: 30 + 3 x 10 s of silence here, 480 s by default.
    export OMPI_MCA_oob_tcp_keepalive_time=30 OMPI_MCA_oob_tcp_keepalive_intvl=10 OMPI_MCA_oob_tcp_keepalive_probes=3
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
    # Left by make install where libtorch is none of this program's.
    [ ! -e "$home/libtorch" ] || export LIBTORCH=${LIBTORCH:-$home/libtorch}
    local from=$PWD
    cd "$home"
    # Site files are read as a user's shell would: module functions fail under set -eu.
    set +eu
    # shellcheck source=/dev/null
    TFBIND_JOB=1 . "modules/$SITE" || exit 2
    set -eu
    cd "$from"
    local folder
    for folder in "$home/../../bin" "$home/target/release"; do # of make install, of a checkout
        [ ! -x "$folder/tfbind-mpi" ] || PATH=$(realpath "$folder"):$PATH
    done
    LD_LIBRARY_PATH=${LIBTORCH:+$LIBTORCH/lib}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export PATH LD_LIBRARY_PATH
    command -v tfbind-mpi >/dev/null || fail "no tfbind-mpi in $home/target/release or on PATH: make build, or make install"
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

clean_up() {
    stop_gpu_samples
    end_stage
    [ -z "$claimed" ] || rm -f "$claimed"
    [ "$nodefile" = "${PBS_NODEFILE:-}" ] || rm -f "$nodefile"
}
