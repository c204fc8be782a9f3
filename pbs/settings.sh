# What a job is given, for job.sh and submit. The environment (qsub -v NAME=VALUE) comes before the user's file, which
# is pbs/settings.example copied to ~/.config/tfbind-mpi/settings, or the file that TFBIND_SETTINGS names.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # the parts of job.sh share its variables

setting_names=(PROJECT STORAGE EMAIL SITE DATA RUN TRAIN RANKS DEVICE MARGIN MAX_RESUBMITS PREP OUT SWEEP SCALING)

fail() { echo "${job_file:-pbs}: $*" >&2; exit 2; }

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

# The settings as they stand, in the form of the user's file: what a job hands on to the one that goes on for it.
write_settings() {
    local name
    for name in "${setting_names[@]}"; do
        [ -z "${!name+set}" ] || printf '%s=%q\n' "$name" "${!name}"
    done
}
