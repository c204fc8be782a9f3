# The data file on each host's own disk, where it fits. `data` is where ranks read it.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # job.sh and its parts share variables

# On one host: SOURCE FOLDER. Copied under another name first, so that a file of that name is whole.
# shellcheck disable=SC2016
copy_script='
    set -eu
    name=$2/$(basename "$1") size=$(stat -c %s "$1")
    free=$(df --output=avail -B1 "$(dirname "$2")" | tail -n 1)
    if [ "$free" -lt "$size" ]; then
        echo "$(hostname): $((free >> 20)) MiB free on $(dirname "$2"), $((size >> 20)) MiB needed" >&2
        exit 1
    fi
    mkdir -p "$2"
    cp "$1" "$name.partial"
    mv "$name.partial" "$name"'

# On every host of the job; one host needs no launcher.
everywhere() {
    if [ ${#hosts[@]} -eq 1 ]; then "$@"; else "${on_each_host[@]}" "$@"; fi
}

stage() {
    data=$DATA staged=''
    if [ -z "$jobfs" ]; then
        say "no PBS_JOBFS or TMPDIR: reading $DATA where it lies"
    elif [ ! -d "$jobfs" ]; then
        say "PBS_JOBFS=$jobfs is no folder: reading $DATA where it lies"
    else
        local folder=$jobfs/tfbind-mpi.$job_id began=$SECONDS
        watch everywhere bash -c "$copy_script" stage "$DATA" "$folder"
        staged=$folder
        if [ "$code" -eq 0 ]; then
            data=$folder/$(basename "$DATA")
            say "$DATA copied to $folder of ${#hosts[@]} hosts in $((SECONDS - began)) s"
        else
            everywhere rm -rf "$folder" || say "could not remove $folder"
            staged=''
            [ -n "$signalled" ] || say "$DATA does not fit on $jobfs of every host: reading it where it lies"
        fi
    fi
}

# The batch system empties PBS_JOBFS itself; what lies elsewhere is removed here.
end_stage() {
    [[ -z $staged || -n ${PBS_JOBFS:-} ]] || everywhere rm -rf "$staged" || say "could not remove $staged"
    staged=''
}
