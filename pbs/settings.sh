# What a job is given, for job.sh and submit. The environment (qsub -v NAME=VALUE) comes before the user's file, which
# is pbs/settings.example copied to ~/.config/tfbind-mpi/settings, or the file that TFBIND_SETTINGS names.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # job.sh and its parts share variables

setting_names=(PROJECT STORAGE EMAIL SITE DATA RUN TRAIN RANKS DEVICE MARGIN MAX_RESUBMITS PREP SCALING SWEEP)

say() { echo "${job_file##*/}: $*"; }

fail() { echo "${job_file##*/}: $*" >&2; exit 2; }

read_settings() {
    local name file=${TFBIND_SETTINGS:-${XDG_CONFIG_HOME:-${HOME:-}/.config}/tfbind-mpi/settings}
    local -A given=()
    for name in "${setting_names[@]}"; do
        [ -z "${!name+set}" ] || given[$name]=${!name}
    done
    if [ -e "$file" ]; then
        # shellcheck source=/dev/null
        . "$file" || fail "$file: not read to its end"
    elif [ -n "${TFBIND_SETTINGS:-}" ]; then
        fail "TFBIND_SETTINGS=$file: no such file"
    fi
    for name in "${!given[@]}"; do
        printf -v "$name" %s "${given[$name]}"
    done
}

# DATA, and the run folder: RUN, or runs/ and the name of DATA and of the kind of job.
find_run() {
    [ -n "${DATA:-}" ] || fail "DATA is not given: -v DATA=FILE.h5 (and RUN=FOLDER), or DATA=FILE.h5 in the settings file"
    local kind=$1
    DATA=$(realpath -m "$DATA")
    RUN=$(realpath -m "${RUN:-runs/$(basename "$DATA" .h5)${kind:+-$kind}}")
    [[ $RUN != *[[:space:],]* ]] || fail "RUN=$RUN: qsub hands on no names with blanks or commas"
    mkdir -p "$RUN/job" || fail "RUN=$RUN: no folder can be made there"
}

# Settings travel to a job in a file: what qsub hands on by itself may hold no blanks or commas. hand_on FOLDER
hand_on() {
    local name file=$1/job/settings
    mkdir -p "$1/job"
    for name in "${setting_names[@]}"; do
        [ -z "${!name+set}" ] || printf '%s=%q\n' "$name" "${!name}"
    done >"$file"
    echo "TFBIND_HOME=$home,TFBIND_SETTINGS=$file"
}
