# One page on what a job did: RUN/job/report.txt, and the same at the end of the job's output. RUN/job/jobs.tsv holds a
# line for each job of the run.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # job.sh and its parts share variables

# Seconds between two samples of the GPUs of the first host; all hosts of a job wait for each other, and are alike.
gpu_sample_seconds=10

start_gpu_samples() {
    gpu_samples=$run/job/gpu-busy.txt gpu_sampler=''
    rm -f "$gpu_samples"
    if [ "$gpus" -eq 0 ] || ! command -v nvidia-smi >/dev/null; then return; fi
    nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -l "$gpu_sample_seconds" >"$gpu_samples" 2>&1 &
    gpu_sampler=$!
}

stop_gpu_samples() {
    [ -z "${gpu_sampler:-}" ] || kill "$gpu_sampler" 2>/dev/null || true
    gpu_sampler=''
}

gpu_busy() {
    if [ ! -e "${gpu_samples:-}" ]; then
        echo "no GPU was sampled"
    else
        awk -v host="${hosts[0]}" '/^ *[0-9]+ *$/ { sum += $1; count++ }
            END { if (count) printf "%.0f %% of the time (%d samples on %s)\n", sum / count, count, host
                  else print "nvidia-smi gave no sample" }' "$gpu_samples"
    fi
}

# Service units of a core and hour in this queue; empty where the table lacks it.
charge_rate() { awk -v queue="$queue" '$1 == queue { print $2 }' "$home/pbs/charges"; }

# Service units of so many seconds of this job; empty where the queue is not in the table. GB of its memory count as the
# cores whose share they are.
service_units() {
    local memory
    memory=$(requested mem)
    awk -v queue="$queue" -v cpus="$cpus" -v memory="$memory" -v seconds="$1" '
        function gigabytes(text,  unit) {
            unit = tolower(text); gsub(/[0-9.]/, "", unit)
            return text * (unit ~ /^k/ ? 1 / 1048576 : unit ~ /^m/ ? 1 / 1024 : unit ~ /^t/ ? 1024 : unit ~ /^g/ ? 1 : 1 / 1073741824)
        }
        $1 == queue {
            share = $4 > 0 ? gigabytes(memory) * $3 / $4 : 0
            printf "%.2f\n", $2 * (share > cpus ? share : cpus) * seconds / 3600
        }' "$home/pbs/charges"
}

clock() { printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); }

# Jobs of this run that another went on for.
resubmits() {
    if [ -e "$run/job/jobs.tsv" ]; then grep -c 'goes on in job' "$run/job/jobs.tsv" || true; else echo 0; fi
}

# A number of the last line of metrics.jsonl that holds EVENT: of_log EVENT NAME.
of_log() {
    grep "\"event\":\"$1\"" "$run/metrics.jsonl" 2>/dev/null | tail -n 1 | grep -o "\"$2\":[^,}]*" | head -n 1 | cut -d: -f2
}

metrics_line() {
    local -a names=(pr_auc average_precision auroc dice_coef binary_io_u)
    local name value
    for name in "${names[@]}"; do
        value=$("$@" "$name") || value=
        [[ -z $value || $value == null ]] || printf '%s %.4f  ' "$name" "$value"
    done
}

of_evaluation() { grep -o "\"$1\": [^,}]*" "$run/evaluation_metrics$([ "$split" = test ] || echo "_$split").json" | head -n 1 | cut -d' ' -f2; }

# report TEXT: what the job has to show.
report() {
    local table=$run/job/jobs.tsv units all_seconds all_units jobs
    units=$(service_units "$SECONDS")
    [ -e "$table" ] || printf 'job\tqueue\tranks\tseconds\tservice_units\tfirst_step\tlast_step\toutcome\n' >"$table"
    printf '%s\t' "$job_id" "${queue:--}" "$ranks" "$SECONDS" "${units:--}" "$first_step" "$last" >>"$table"
    printf '%s\n' "$outcome" >>"$table"
    read -r jobs all_seconds all_units < <(awk -F'\t' 'NR > 1 { seconds += $4; units += $5; count++ }
        END { printf "%d %d %.2f\n", count, seconds, units }' "$table")
    {
        echo "tfbind-mpi job report"
        row job "$job_id, queue ${queue:-unknown}; $jobs of this run so far"
        row ended "$outcome"
        row hosts "${#hosts[@]}: ${hosts[*]}"
        row ranks "$ranks, $cores_per_rank cores each; $gpus GPUs"
        row time "$(clock "$SECONDS"); all jobs of the run $(clock "$all_seconds")"
        if [ -n "$units" ]; then
            row charge "$units SU; all jobs of the run $all_units SU (rates: pbs/charges)"
        else
            row charge "unknown: pbs/charges has no queue ${queue:-without a name}"
        fi
        row "GPU busy" "$(gpu_busy)"
        row data "$DATA$([ "$data" = "$DATA" ] || echo ", read from $data")"
        row run "$run"
        printf '%s\n' "$1"
    } >"$run/job/report.txt"
    cat "$run/job/report.txt"
}

row() { printf '%-14s%s\n' "$1" "$2"; }

training() {
    local tested='' validated
    validated=$(metrics_line of_log evaluation)
    [ "$ended" != 'done' ] || tested=$(metrics_line of_evaluation)
    row steps "$first_step to $last in this job; epoch $(of_log step epoch)"
    row samples/s "$(of_log step samples_per_s | awk '{ printf "%.1f", $1 }')"
    row validation "${validated:-none yet}"
    row "$split" "${tested:-not evaluated yet}"
}

# The best trials, in the columns that fit on a page.
sweep_table() {
    row steps "$first_step to $last in this job, of all trials"
    [ -e "$run/sweep.csv" ] || return 0
    head -n 11 "$run/sweep.csv" | awk -F, '
        NR == 1 { while ($(count + 1) != "run") count++ }
        { for (i = 1; i <= count; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } }
        END { for (row = 1; row <= NR; row++) {
                  line = ""
                  for (i = 1; i <= count; i++) line = line sprintf("%*s  ", width[i], cell[row, i])
                  sub(/ +$/, "", line); print line } }'
}

# The columns of a scaling study that fit on a page.
study_table() {
    [ -e "$run/study/scaling.csv" ] || return 0
    awk -F, -v names="mode ranks samples_per_s efficiency predicted_efficiency su_per_million_samples" '
        NR == 1 { count = split(names, name, " "); for (i = 1; i <= NF; i++) at[$i] = i }
        { line = ""
          for (i = 1; i <= count; i++) line = line sprintf("%-*s", length(name[i]) + 2, name[i] in at ? $at[name[i]] : "")
          sub(/ +$/, "", line); print line }' "$run/study/scaling.csv"
}
