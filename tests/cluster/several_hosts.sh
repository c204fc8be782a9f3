# Training over four hosts: the same results on any number of them, and an end with a name when one is cut off.
# Sourced by run.sh, after checks.sh.
# shellcheck shell=bash disable=SC2154
hosts=$root/tests/cluster/hosts.sh
# Ranks share two cores here: they are not bound, and give the core away while they wait.
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1

# over HOSTS_NAME COMMAND…: one rank on each.
over() { "$hosts" run "$1" "$1" "$root/target/release/tfbind-mpi" "${@:2}"; }
train() { over "$1" train --threads 1 "${@:2}"; }

names() {
    [ "$("$hosts" run 4 8 hostname | sort | uniq -c | xargs)" = "2 node1 2 node2 2 node3 2 node4" ]
}

trains() {
    train 4 --data "$work/data.h5" --run "$work/whole" --epochs 2 | tee "$work/said"
    says "$work/said" "rank 3 -> node4 " "^ranks 4$" "^steps 24$"
}

stops() { train 4 --data "$work/data.h5" --run "$work/part" --epochs 2 --stop-at 10; }

# goes_on HOSTS_NAME TOLERANCE
goes_on() {
    rm -rf "$work/rest" && cp -r "$work/part" "$work/rest"
    train "$1" --run "$work/rest" --resume > "$work/said"
    same_losses "$work/whole" "$work/rest" "$2"
}

evaluates_alike() {
    local count
    for count in 4 3; do
        mkdir "$work/of-$count"
        over "$count" evaluate "$work/whole" --threads 1 --out "$work/of-$count" > "$work/said"
        says "$work/said" "^ranks $count$"
        grep -Ev '^(ranks|training_time|samples_per_s|table) ' "$work/said" > "$work/metrics-$count"
    done
    grep pr_auc "$work/metrics-4"
    diff <(grep -v -e '->' "$work/metrics-4") <(grep -v -e '->' "$work/metrics-3")
}

# Four ranks at work, then node3's cable is pulled; the program's own line comes after `stall` seconds or what the ranks
# say to each other meanwhile, and mpirun, left to itself, misses the host after `keepalive` seconds.
cut_off() {
    local stall=$1 keepalive=$2 began code=0
    rm -rf "$work/cut"
    export OMPI_MCA_oob_tcp_keepalive_time=$((keepalive - 2)) OMPI_MCA_oob_tcp_keepalive_intvl=1 \
        OMPI_MCA_oob_tcp_keepalive_probes=2
    note "\$ mpirun -np 4 --host node1,node2,node3,node4 tfbind-mpi --stall-timeout $stall train --data data.h5 --run cut ..."
    : > "$work/said"
    over 4 --stall-timeout "$stall" train --threads 1 --data "$work/data.h5" --run "$work/cut" --epochs 9999 --save-every 5 \
        >> "$work/said" 2>&1 &
    until_true 60 test -e "$work/cut/last.safetensors"
    began=$SECONDS
    "$hosts" cut node3
    echo "[$(date +%T): node3's link is cut]" >> "$work/said"
    wait $! || code=$?
    echo $((SECONDS - began)) > "$work/took"
    "$hosts" mend node3
    { cat "$work/said"; echo "[ended with code $code, $(< "$work/took") s after the cut]"; } | portable >> "$transcript"
    [ "$code" -ne 0 ]
}

ended_within() { cat "$work/took"; [ "$(< "$work/took")" -le "$1" ]; }
one_line() { [ "$(grep -c '^error:' "$work/said")" -eq 1 ]; }
idle() { [ -z "$(ip netns pids "$HOSTS_NAME-$1")" ]; }
nothing_left_on() {
    local node
    for node in "$@"; do
        until_true 10 idle "$node"
    done
}

goes_on_without_it() {
    local stop=$(($(last_logged cut) + 10))
    note "\$ mpirun -np 2 --host node1,node2 tfbind-mpi train --run cut --resume --stop-at $stop"
    train 2 --run "$work/cut" --resume --stop-at "$stop" | tee "$work/said" | portable >> "$transcript"
    says "$work/said" "^ranks 2$" "^steps [1-9]"
    [ "$(last_logged cut)" -eq "$stop" ]
}

several_hosts() {
    note "# Four hosts, one link cut"
    check "four hosts come up" "$hosts" up 4
    check "ranks run on each, under its name" names
    check "four hosts train" trains
    check "metrics of the test windows are those of any number of hosts" evaluates_alike
    check "a run stops half way" stops
    check "and goes on over four hosts, bit for bit" goes_on 4 0
    check "over two hosts, to rounding" goes_on 2 1e-3
    check "a host whose link is cut ends the job" cut_off 3 10
    check "the ranks name it after --stall-timeout" says "$work/said" \
        "^error: rank [01] on node[12]: stalled for 3 s .*step [0-9]+\): rank 2 on node3 (silent|did not arrive)"
    check "in one line, for all" one_line
    check "mpirun ends soon after" ended_within 45
    check "no process is left there" nothing_left_on node1 node2 node4
    check "mpirun alone names it before a longer --stall-timeout" cut_off 60 5
    check "within that limit" ended_within 60
    check "by its name" says "$work/said" "Remote daemon.*on node node3"
    check "two other hosts go on from the last checkpoint" goes_on_without_it
    check "the hosts go down" "$hosts" down
}
