# The job files under a batch system with qsub: data made, training that outlives its wall time and a signal, the report.
# Sourced by run.sh, after checks.sh.
# shellcheck shell=bash disable=SC2154
slurm=$root/tests/cluster/slurm.sh

# What a user has in ~/.config/tfbind-mpi/settings. A job of two minutes saves after 30 s: Slurm
# knows minutes only, and a busy machine needs time to stop.
settings() {
    cat > "$work/settings" <<-END
	SITE=${SITE:-debian}
	RANKS=2
	DEVICE=cpu
	MARGIN=90
	MAX_RESUBMITS=30
	PREP='--fasta genome/genome.fa --signal DNase=genome/dnase.bigWig --peaks CTCF=genome/ctcf.narrowPeak --widen 25 --length 1024 --valid sim3 --test sim4'
	TRAIN='--threads 1 --save-every 2 --epochs $1'
	SWEEP=$work/sweep.toml
	SCALING='--modes weak --batch 4 --steps 4 --warmup 2 --repeats 1'
	END
    printf '%s\n' 'method = "grid"' '[search]' 'lr = [0.001, 0.002]' 'seed = [1, 2]' > "$work/sweep.toml"
}

# submit FILE SETTINGS [OPTION…]: as a user does, from the folder of the data; `job` then says its id.
submit() {
    local file=$1 given=$2; shift 2
    ( cd "$work" && show qsub "$@" -v "TFBIND_HOME=$root,TFBIND_SETTINGS=$work/settings,$given" "$root/pbs/$file" ) \
        > "$work/submitted"
    grep -Eq '^[0-9]+' "$work/submitted" || { cat "$work/submitted"; return 1; }
}
job() { tail -n 1 "$work/submitted"; }

state() { qstat -f "$1" 2> /dev/null | sed -n 's/.*job_state = //p'; }
is() { [ "$(state "$1")" = "$2" ]; }
over_with() { case $(state "$1") in C | "") true ;; *) false ;; esac; }
output() { cat "$work"/*.o"$1"; }

# A job of the run, and what it is found at; jobs.tsv: job queue ranks seconds service_units first_step last_step outcome.
row() { sed -n "$(($1 + 1))p" "$work/$2/job/jobs.tsv" | cut -f"$3"; }
ended() { [ "$(($(wc -l < "$work/$2/job/jobs.tsv" 2> /dev/null) - 1))" -ge "$1" ]; }
went_on() { [[ $(row "$1" run 8) == "wall time: goes on in job "* ]]; }
has_logged() { [ "$(last_logged run)" -ge "$1" ]; }

makes_data() {
    submit prep.pbs "DATA=$work/made.h5"
    until_true 90 over_with "$(job)"
    output "$(job)" | tee "$work/said"
    test -s "$work/made.h5"
    says "$work/said" "^ended +done" "^train: 192 windows"
}

starts() {
    submit gpuvolta.pbs "DATA=made.h5,RUN=run" -l walltime=00:02:00
    until_true 60 is "$(job)" R
    show qstat
}

stops_in_time() {
    until_true 120 ended 1 run
    local first
    first=$(row 1 run 1)
    until_true 60 over_with "$first"
    output "$first" | portable >> "$transcript"
    output "$first" | tail -n 30
    [ "$first" = "$(job)" ]
    went_on 1
    [ "$(row 1 run 7)" -gt 0 ]
}

# What a PBS sends when the wall time ends, to all processes of the job.
signalled() {
    local second
    second=$(row 1 run 8 | grep -o '[0-9]*$')
    until_true 60 is "$second" R
    until_true 60 has_logged $(($(row 1 run 7) + 4))
    show qstat
    show scancel --signal=TERM --full "$second"
    until_true 60 ended 2 run
    until_true 60 over_with "$second"
    output "$second" | tee "$work/said" | portable >> "$transcript"
    tail -n 30 "$work/said"
    [ "$(row 2 run 6)" -ge "$(row 1 run 7)" ]
    went_on 2
    says "$work/said" "SIGTERM after" "resumed +after step"
}

finishes() {
    until_true 450 grep -q $'\tdone$' "$work/run/job/jobs.tsv"
    local last
    last=$(tail -n 1 "$work/run/job/jobs.tsv" | cut -f1)
    until_true 30 over_with "$last"
    output "$last" | portable >> "$transcript"
    show cat "$work/run/job/jobs.tsv"
    [ "$(losses "$work/run" | wc -l)" -eq $((12 * epochs)) ]
}

reports() {
    cat "$work/run/job/report.txt"
    says "$work/run/job/report.txt" "^job +[0-9]+, queue gpuvolta; [3-9]" "^ended +done" "^ranks +2" "^time +0:0" \
        "^charge +[0-9.]+ SU" "^GPU busy +no GPU was sampled" "^samples/s +[0-9]" "^validation +.*pr_auc" "^test +pr_auc"
}

# As one that nobody stopped, well past the two places where the job was.
as_if_nothing_had_been() {
    local stop=$(($(row 2 run 7) + 2))
    mpirun -np 2 "$root/target/release/tfbind-mpi" train --data "$work/made.h5" --run "$work/never" --device cpu --threads 1 \
        --save-every 2 --epochs "$epochs" --stop-at "$stop"
    losses "$work/run" | head -n "$stop" > "$work/losses"
    losses "$work/never" | diff "$work/losses" -
}

sweeps() {
    submit sweep.pbs "DATA=made.h5,RUN=swept,TRAIN=--stop-at=2" -l walltime=00:05:00
    until_true 120 over_with "$(job)"
    output "$(job)" | tee "$work/said"
    says "$work/said" "^ended +done" "4 trials on 2 groups of 1 ranks" "^steps +0 to 8 in this job"
    [ "$(grep -c ',done,' "$work/swept/sweep.csv")" -eq 4 ]
}

# The settings of training are for long runs.
scales() {
    submit scaling.pbs "DATA=made.h5,RUN=study,TRAIN=--seed=1" -l walltime=00:10:00
    until_true 240 over_with "$(job)"
    output "$(job)" | tee "$work/said"
    says "$work/said" "^ended +done" "scaling.svg"
    [ "$(grep -c '^weak,' "$work/study/study/scaling.csv")" -ge 2 ]
}

no_jobs() { [ -z "$(squeue -h)" ]; }
deleted() {
    submit gpuvolta.pbs "DATA=made.h5,RUN=gone" -l walltime=00:30:00
    until_true 90 test -e "$work/gone/last.safetensors"
    qdel "$(job)"
    until_true 60 ended 1 gone
    row 1 gone 8
    [[ $(row 1 gone 8) == deleted:* ]]
    until_true 60 no_jobs
}

nothing_runs() { ! pgrep -af "slurm.*$work|munged.*$work"; }

# Epochs for some 45 s of training here and now: a job of the chain has some 25 s.
enough_epochs() {
    local speed
    speed=$(mpirun -np 2 "$root/target/release/tfbind-mpi" train --data "$work/data.h5" --run "$work/speed" --device cpu \
        --threads 1 --epochs 2 | sed -n 's/^samples_per_s //p')
    awk -v speed="$speed" 'BEGIN { epochs = int(45 * speed / 192); print epochs < 3 ? 3 : epochs }'
}

batch_system() {
    note "# qsub, run, wall time, signal, requeue, finished, report"
    check "a batch system comes up" "$slurm" up "$work/slurm" gpuvolta normal
    [ "$result" -eq 0 ] || return 0
    # shellcheck source=/dev/null
    . "$work/slurm/environment"
    epochs=$(enough_epochs)
    settings "$epochs"
    check "qsub pbs/prep.pbs makes the data" makes_data
    [ "$result" -eq 0 ] || return 0
    check "qsub pbs/gpuvolta.pbs runs" starts
    check "it saves before its wall time and submits itself again" stops_in_time
    [ "$result" -eq 0 ] || return 0
    check "the next goes on from there; a signal, and it does the same" signalled
    [ "$result" -eq 0 ] || return 0
    check "the last of them finishes" finishes
    check "with a report" reports
    check "each step equals that of a run that nobody stopped" as_if_nothing_had_been
    check "qsub pbs/sweep.pbs trains every trial of a sweep" sweeps
    check "qsub pbs/scaling.pbs times one rank and two" scales
    check "a deleted job saves and does not come back" deleted
    check "the batch system goes down" "$slurm" down "$work/slurm"
    check "and leaves no process" nothing_runs
}
