#!/usr/bin/env bash
# Several hosts on one machine: network namespaces with their own addresses and host names, joined by a switch. Open MPI
# starts ranks on them as it would over ssh. Needs root and iproute2; nothing outside the namespaces is changed.
#   hosts.sh up N [--rate 1gbit] [--delay 1ms]   starts node1 … nodeN; rate and delay hold in each direction of a link
#   hosts.sh run NODES RANKS COMMAND…            mpirun from node1: RANKS ranks spread over the first NODES nodes
#   hosts.sh on NODE COMMAND…                    runs a command on one node
#   hosts.sh cut NODE                            pulls the node's cable; hosts.sh mend NODE plugs it in again
#   hosts.sh down                                ends what runs on the nodes, and the nodes
# HOSTS_NAME (default tfbind) tells apart two such sets of nodes that are up at the same time.
set -euo pipefail
set_name=${HOSTS_NAME:-tfbind} network=10.99.0
self=$(readlink -f "${BASH_SOURCE[0]}")

stop() { echo "hosts: $*" >&2; exit 1; }
namespace() { echo "$set_name-$1"; }
nodes() { ip netns list | sed -n "s/^$set_name-\(node[0-9]*\)\b.*/\1/p" | sort -V; }

up() {
    local count=${1:?how many nodes?} rate="" delay="" node n
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --rate)  rate=${2:?} ;;
            --delay) delay=${2:?} ;;
            *)       stop "$1 is not known; --rate or --delay" ;;
        esac
        shift 2
    done
    [ -z "$(nodes)" ] || stop "$(nodes | paste -sd' ') are up already; end them with: $0 down"
    trap '[ $? -eq 0 ] || down' EXIT
    ip netns add "$(namespace switch)"
    ip -n "$(namespace switch)" link add switch type bridge
    ip -n "$(namespace switch)" link set switch up
    for n in $(seq "$count"); do
        node=node$n
        ip netns add "$(namespace "$node")"
        ip -n "$(namespace "$node")" link add eth0 type veth peer name "$node" netns "$(namespace switch)"
        ip -n "$(namespace "$node")" address add "$network.$n/24" dev eth0
        ip -n "$(namespace "$node")" link set lo up
        ip -n "$(namespace "$node")" link set eth0 up
        ip -n "$(namespace switch)" link set "$node" master switch up
        slow "$node" "$rate" "$delay"
        mkdir -p "/etc/netns/$(namespace "$node")"
        { echo "127.0.0.1 localhost"; seq "$count" | sed "s/.*/$network.& node&/"; } > "/etc/netns/$(namespace "$node")/hosts"
    done
}

# Both ends of a node's link. A kernel without netem can hold back the rate, by a bucket of tokens, but not delay.
slow() {
    local node=$1 rate=$2 delay=$3 end
    [ -n "$rate$delay" ] || return 0
    for end in "$(namespace "$node") eth0" "$(namespace switch) $node"; do
        # shellcheck disable=SC2086 # namespace and device
        set -- $end
        if [ -n "$delay" ]; then
            ip netns exec "$1" tc qdisc add dev "$2" root netem delay "$delay" ${rate:+rate "$rate"} 2> /dev/null \
                || stop "this kernel takes no --delay $delay: it needs the module sch_netem"
        else
            ip netns exec "$1" tc qdisc add dev "$2" root tbf rate "$rate" burst 256kb latency 50ms \
                || stop "--rate $rate: tc takes 1gbit, 100mbit and so on, and needs the kernel module sch_tbf"
        fi
    done
}

# A process on a node sees its network and its name, and of the environment what ssh would bring plus the scratch folder.
on() {
    local node=$1; shift
    # shellcheck disable=SC2016 # expanded there
    exec ip netns exec "$(namespace "$node")" unshare --uts sh -c 'hostname "$0" && exec "$@"' "$node" "$@"
}

# What Open MPI calls in place of ssh: the node, then one line for a shell there.
agent() {
    local node=$1; shift
    on "$node" env -i PATH="$PATH" HOME="$HOME" TMPDIR="${TMPDIR:-/tmp}" sh -c "$*"
}

run() {
    local nodes=$1 ranks=$2 list n; shift 2
    list=$(for n in $(seq "$nodes"); do printf '%s' "node$n:$(((ranks + nodes - n) / nodes)),"; done)
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 HOSTS_NAME=$set_name
    on node1 mpirun --mca plm_rsh_agent "$self agent" --mca pml ob1 --mca btl_tcp_if_include eth0 \
        --mca oob_tcp_if_include eth0 --host "${list%,}" -np "$ranks" "$@"
}

link() { ip -n "$(namespace switch)" link set "$1" "$2"; }

down() {
    local node
    for node in $(nodes) switch; do
        ip netns pids "$(namespace "$node")" 2> /dev/null | xargs -r kill -9 2> /dev/null || true
        ip netns delete "$(namespace "$node")" 2> /dev/null || true
        rm -rf "/etc/netns/$(namespace "$node")"
    done
    rmdir /etc/netns 2> /dev/null || true
}

case ${1:-} in
    up | run | on | agent | down | nodes)
        [ "$(id -u)" -eq 0 ] || stop "network namespaces need root"
        "$@" ;;
    cut)  link "${2:?which node?}" down ;;
    mend) link "${2:?which node?}" up ;;
    *)    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$self"; exit 2 ;;
esac
