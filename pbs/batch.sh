# What the batch system says of this job, in variables of one name whichever system it is; sourced by job.sh.
# Genuine OpenPBS sets PBS_JOBID, PBS_NODEFILE, PBS_QUEUE, PBS_O_*; Gadi adds PBS_NGPUS, PBS_NCPUS, PBS_JOBFS; Slurm has
# its own. What no variable says is asked of qstat, then seen on this host.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # job.sh and its parts share variables

# What the job asked for, as `qstat -f` tells it: requested ngpus. Empty where it tells nothing.
requested() { sed -n "s/^[[:space:]]*Resource_List\.$1 = //p" <<<"$job_facts"; }

# An attribute of the job: fact job_state.
fact() { sed -n "s/^[[:space:]]*$1 = //p" <<<"$job_facts"; }

# What is known of a job, in the words of `qstat -f`. Slurm without its qstat tells the state alone.
facts_of() {
    if command -v qstat >/dev/null; then
        # Of a long value qstat puts the rest on lines of their own.
        { timeout 30 qstat -f "$1" 2>/dev/null || true; } |
            awk '/ = / { print text; text = $0; next } { sub(/^[ \t]+/, ""); text = text $0 } END { print text }'
    elif command -v squeue >/dev/null; then
        squeue --noheader --jobs "$1" --format ' job_state = %t' 2>/dev/null || true
    fi
}

# Seconds of [[[days-]hours:]minutes:]seconds; Slurm writes days so.
seconds_of() {
    awk -v text="$1" 'BEGIN {
        days = 0
        if (split(text, part, "-") == 2) { days = part[1]; text = part[2] }
        count = split(text, field, ":")
        for (i = 1; i <= count; i++) total = total * 60 + field[i]
        print days * 86400 + total
    }'
}

is_count() { [[ $1 =~ ^[0-9]+$ ]]; }

# job_id, queue, hosts, nodefile, jobfs, wall_seconds.
find_job() {
    job_id=${PBS_JOBID:-${SLURM_JOB_ID:-}}
    [ -n "$job_id" ] || fail "neither PBS_JOBID nor SLURM_JOB_ID is set: this is a job file, give it to qsub or sbatch"
    job_facts=$(facts_of "$job_id")
    if [ -n "${PBS_NODEFILE:-}" ]; then
        nodefile=$PBS_NODEFILE
        [ -s "$nodefile" ] || fail "PBS_NODEFILE=$nodefile: no such file, or an empty one"
    elif [ -n "${SLURM_JOB_NODELIST:-}" ]; then
        nodefile=$(mktemp)
        scontrol show hostnames "$SLURM_JOB_NODELIST" >"$nodefile"
    else
        fail "neither PBS_NODEFILE nor SLURM_JOB_NODELIST is set: the batch system names no host"
    fi
    # A host stands there once, or once for each process or core of it.
    mapfile -t hosts < <(awk 'NF && !seen[$1]++ { print $1 }' "$nodefile")
    # Gadi routes a job of queue gpuvolta to gpuvolta-exec.
    queue=${PBS_O_QUEUE:-${PBS_QUEUE:-${SLURM_JOB_PARTITION:-}}}
    queue=${queue%-exec}
    # A disk of each host that is emptied when the job ends.
    jobfs=${PBS_JOBFS:-${SLURM_TMPDIR:-${TMPDIR:-}}}
    local limit=${PBS_WALLTIME:-$(requested walltime)}
    if [ -z "$limit" ] && [ -n "${SLURM_JOB_ID:-}" ]; then
        limit=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %l)
    fi
    case $limit in
        *[!0-9:-]* | "") wall_seconds= ;; # not known, or without limit
        *) wall_seconds=$(seconds_of "$limit") ;;
    esac
}

# cpus and gpus of all hosts together.
find_share() {
    cpus=${PBS_NCPUS:-$(requested ncpus)}
    local here=${SLURM_CPUS_ON_NODE:-$(nproc)}
    cpus=${cpus:-$((here * ${#hosts[@]}))}
    gpus=${PBS_NGPUS:-$(requested ngpus)}
    if [ -z "$gpus" ]; then
        here=${SLURM_GPUS_ON_NODE:-}
        [ -n "$here" ] || ! command -v nvidia-smi >/dev/null || here=$(nvidia-smi -L | grep -c '^GPU ' || true)
        gpus=$((${here:-0} * ${#hosts[@]}))
    fi
    is_count "$cpus" || fail "PBS_NCPUS=$cpus is no number"
    is_count "$gpus" || fail "PBS_NGPUS=$gpus is no number"
}

# ranks, and how mpirun lays them on hosts and cores: one rank a GPU, or one a core, or RANKS, or the number given.
find_ranks() {
    find_share
    local count=${#hosts[@]}
    [ $# -eq 0 ] || local RANKS=$1
    # Cores of a host: those asked for, at most those that this shell may use.
    local cores=$((cpus / count)) usable
    usable=$(nproc)
    [ "$cores" -le "$usable" ] || cores=$usable
    [ "$cores" -gt 0 ] || fail "$cpus cores on $count hosts: give every host one at least"
    if [ -n "${RANKS:-}" ]; then
        is_count "$RANKS" || fail "RANKS=$RANKS is no number of ranks"
        ranks=$RANKS
    elif [ "$gpus" -gt 0 ]; then
        ranks=$gpus
    else
        ranks=$((cores * count))
    fi
    if [ "$ranks" -eq 0 ] || [ $((ranks % count)) -ne 0 ]; then
        fail "$ranks ranks on $count hosts (${hosts[*]}): ask for as many on each"
    fi
    ranks_per_host=$((ranks / count)) cores_per_rank=$((cores / (ranks / count)))
    if [ "$cores_per_rank" -gt 0 ]; then
        mapping=(--map-by "ppr:$ranks_per_host:node:PE=$cores_per_rank" --bind-to core)
    else
        say "$ranks_per_host ranks on the $cores cores of a host: they are not bound, and wait for each other"
        mapping=(--map-by "ppr:$ranks_per_host:node" --bind-to none)
    fi
    # Open MPI takes the lines of a host for its slots; 4.x and 5.x have their own name for "more ranks than slots".
    export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
}

# Who is asked to stop before the wall time ends can go on; who is deleted should not come back.
is_deleted() {
    [ -z "$wall_seconds" ] || [ "$SECONDS" -lt $((wall_seconds - margin)) ] || return 1
    job_facts=$(facts_of "$job_id")
    local state
    state=$(fact job_state)
    # OpenPBS leaves a deleted job in state R until it has ended, and says so in the comment.
    [[ ${state:-R} != R* ]] || grep -qi 'comment = .*\(terminated\|deleted\)' <<<"$job_facts"
}

# Submits this job file again with what this job was given and asked for; prints the new job's id.
submit_again() {
    # The end of the wall time sends SIGTERM to every process of the job: qsub, too, must get to its end.
    trap '' TERM USR1
    case $job_file in
        *.sbatch) sbatch_again ;;
        *)        qsub_again ;;
    esac
}

qsub_again() {
    local -a options=() asked=()
    local name value option
    job_facts=$(facts_of "$job_id")
    while read -r name option value; do
        [ -n "$value" ] || value=$(fact "$name")
        [[ -z $value || $value == _pbs_project_default ]] || options+=("$option" "$value")
    done <<<"project -P ${PROJECT:-}
        Account_Name -A
        Mail_Users -M ${EMAIL:-}
        Mail_Points -m"
    for name in walltime ncpus ngpus mem jobfs storage; do
        value=$(requested "$name")
        case $name in
            mem) [ -n "$value" ] || value=${SLURM_MEM_PER_NODE:+${SLURM_MEM_PER_NODE}MB} ;;
            storage) value=${STORAGE:-$value} ;;
        esac
        [ -z "$value" ] || asked+=("$name=$value")
    done
    # One -l for all: Slurm's qsub heeds only the last one.
    [ ${#asked[@]} -eq 0 ] || options+=(-l "$(IFS=,; echo "${asked[*]}")")
    [ -z "$queue" ] || options+=(-q "$queue")
    qsub "${options[@]}" -v "$(hand_on "$run")" "$home/$job_file"
}

sbatch_again() {
    local -a options=()
    local option value
    while read -r option value; do
        [ -z "$value" ] || options+=("$option=$value")
    done <<<"--nodes ${SLURM_JOB_NUM_NODES:-}
        --ntasks-per-node ${SLURM_NTASKS_PER_NODE:-}
        --cpus-per-task ${SLURM_CPUS_PER_TASK:-}
        --gpus-per-node $((gpus / ${#hosts[@]}))
        --mem ${SLURM_MEM_PER_NODE:-}
        --time ${wall_seconds:+$(clock "$wall_seconds")}
        --partition ${SLURM_JOB_PARTITION:-}
        --account ${SLURM_JOB_ACCOUNT:-}"
    sbatch --parsable "${options[@]}" --export="ALL,$(hand_on "$run")" "$home/$job_file"
}
