#!/usr/bin/env bash
# A batch system with qsub on one machine: Slurm and its PBS commands, one node, in a folder of its own; no systemd, no
# cgroups, nothing in /etc. Needs root and the packages that modules/debian installs with CLUSTER=1.
#   slurm.sh up FOLDER QUEUE…     starts it; the queues have the names of those that job files ask for
#   . FOLDER/environment          then qsub, qstat, qdel, sinfo, scancel … are those of this batch system
#   slurm.sh down FOLDER          ends its jobs, then itself
set -euo pipefail
stop() { echo "slurm: $*" >&2; exit 1; }

# A port that nothing listens on, from this one on.
free_port() {
    local port=$1
    while ss -Htln "sport = :$port" | grep -q .; do port=$((port + 1)); done
    echo "$port"
}

# Job files ask for the cores and memory of their queue's nodes, which this machine need not have: it claims to.
configure() {
    local folder=$1 host control node; shift
    host=$(hostname -s) control=$(free_port 16817)
    node=$(free_port $((control + 1)))
    cat > "$folder/slurm.conf" <<-END
	ClusterName=tfbind
	SlurmctldHost=$host(127.0.0.1)
	SlurmctldPort=$control
	SlurmdPort=$node
	SlurmUser=root
	AuthType=auth/munge
	AuthInfo=socket=$folder/munge/socket
	CredType=cred/munge
	StateSaveLocation=$folder/state
	SlurmdSpoolDir=$folder/spool
	SlurmctldPidFile=$folder/slurmctld.pid
	SlurmdPidFile=$folder/slurmd.pid
	SlurmctldLogFile=$folder/slurmctld.log
	SlurmdLogFile=$folder/slurmd.log
	ProctrackType=proctrack/linuxproc
	TaskPlugin=task/none
	TaskProlog=$folder/prelude
	SelectType=select/cons_tres
	SelectTypeParameters=CR_Core
	SlurmdParameters=config_overrides
	SchedulerParameters=sched_interval=5,batch_sched_delay=1
	KillWait=20
	ReturnToService=2
	MpiDefault=none
	NodeName=$host NodeAddr=127.0.0.1 CPUs=128 RealMemory=2000000
	END
    for queue in "$@"; do echo "PartitionName=$queue Nodes=ALL State=UP"; done >> "$folder/slurm.conf"
    # What a PBS would set and Slurm does not; qstat -f tells the wall time.
    cat > "$folder/prelude" <<-'END'
	#!/bin/bash
	folder=$(dirname "$0")
	hostname > "$folder/nodes.$SLURM_JOB_ID"
	printf 'export %s\n' "PBS_JOBID=$SLURM_JOB_ID" "PBS_NODEFILE=$folder/nodes.$SLURM_JOB_ID" \
	    "PBS_QUEUE=$SLURM_JOB_PARTITION-exec" "PBS_O_QUEUE=$SLURM_JOB_PARTITION" "PBS_O_WORKDIR=$SLURM_SUBMIT_DIR" \
	    "PBS_ENVIRONMENT=PBS_BATCH" "PBS_NCPUS=$SLURM_CPUS_ON_NODE" "PBS_NGPUS=0" "PBS_JOBFS=$folder/jobfs"
	END
    chmod +x "$folder/prelude"
    echo "export SLURM_CONF=$folder/slurm.conf" > "$folder/environment"
}

up() {
    local folder=$1 command; shift
    for command in munged slurmctld slurmd qsub ss; do
        command -v "$command" > /dev/null || stop "no $command: CLUSTER=1 . modules/debian installs it"
    done
    mkdir -p "$folder"/{state,spool,jobfs,munge}
    configure "$folder" "$@"
    # munged trusts no folder that others may write to, and runs as a user of its own.
    dd if=/dev/urandom of="$folder/munge/key" bs=1024 count=1 status=none
    chmod 711 "$folder"
    chmod 400 "$folder/munge/key"
    chown -R munge "$folder/munge"
    setpriv --reuid munge --regid munge --clear-groups munged --force --key-file "$folder/munge/key" \
        --socket "$folder/munge/socket" --pid-file "$folder/munge/pid" --log-file "$folder/munge/log" \
        --seed-file "$folder/munge/seed"
    # shellcheck source=/dev/null
    . "$folder/environment"
    slurmctld -c
    slurmd -N "$(hostname -s)" -c
    for _ in $(seq 100); do
        [ "$(sinfo -h -o %T 2> /dev/null | sort -u)" != idle ] || return 0
        sleep 0.2
    done
    tail -n 5 "$folder"/*.log >&2
    stop "the node did not come up within 20 s"
}

down() {
    local folder=$1 file pids=()
    [ -e "$folder/environment" ] || return 0
    # shellcheck source=/dev/null
    . "$folder/environment"
    # What jobs started is ended by slurmd.
    timeout 20 scancel --signal=KILL --full --user=root 2> /dev/null || true
    timeout 20 scancel --user=root 2> /dev/null || true
    for _ in $(seq 50); do
        [ -n "$(timeout 5 squeue -h 2> /dev/null)" ] || break
        sleep 0.2
    done
    for file in "$folder"/{slurmd.pid,slurmctld.pid,munge/pid}; do
        [ ! -s "$file" ] || pids+=("$(< "$file")")
    done
    kill "${pids[@]}" 2> /dev/null || true
    for _ in $(seq 50); do
        kill -0 "${pids[@]}" 2> /dev/null || return 0
        sleep 0.2
    done
    kill -9 "${pids[@]}" 2> /dev/null || true
}

case ${1:-} in
    up)   [ "$(id -u)" -eq 0 ] || stop "needs root"; up "${@:2}" ;;
    down) down "$2" ;;
    *)    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
