#!/usr/bin/env bash
# The bench `overlap` on two hosts of one rank each, joined by a slower wire than memory: two network namespaces, TCP, and
# a veth pair limited to so many Gbit/s each way. Needs root, iproute2 and two cores; one core and one thread a rank.
#   benches/overlap.sh [GBIT ...] [-- arguments of the bench]        GBIT: 10 25 unless told, 0 for no limit
#   BENCH=levels RANKS=2 benches/overlap.sh                          another bench, more ranks a host
# No delay is added: what a wire adds, some 20 us a message, is nothing beside the 170 ms that 211 MB take at 10 Gbit/s.
set -euo pipefail
cd "$(dirname "$0")/.."

bench=${BENCH:-overlap} ranks=${RANKS:-1}
rates=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do rates+=("$1"); shift; done
[ $# -eq 0 ] || shift
[ ${#rates[@]} -gt 0 ] || rates=(10 25)

. "modules/${SITE:-debian}"
program=$(cargo bench --locked --bench "$bench" --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
[ -x "$program" ] || { echo "the bench does not build: cargo bench --bench $bench --no-run" >&2; exit 1; }

a=overlap1-$$ b=overlap2-$$ scratch=$(mktemp -d)
trap 'ip netns del $a 2>/dev/null; ip netns del $b 2>/dev/null; rm -rf "$scratch"' EXIT
ip netns add $a && ip netns add $b
ip link add wire netns $a type veth peer name wire netns $b
ip -n $a addr add 10.99.0.1/24 dev wire && ip -n $b addr add 10.99.0.2/24 dev wire
for host in $a $b; do ip -n $host link set lo up && ip -n $host link set wire up; done

# Open MPI's launch agent, called with a host and a command: the second host has a name, a network and a core of its own.
cat > "$scratch/agent" <<AGENT
#!/bin/sh
shift
exec ip netns exec $b unshare --uts taskset -c 1 sh -c "hostname host2; \$*"
AGENT
chmod +x "$scratch/agent"

# As the bench sets them when it calls mpirun itself; there stands why.
export OMPI_MCA_coll_libnbc_iallreduce_algorithm=${OMPI_MCA_coll_libnbc_iallreduce_algorithm:-1}
export OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=-1
for rate in "${rates[@]}"; do
    for host in $a $b; do
        ip netns exec $host tc qdisc del dev wire root 2>/dev/null || true
        # The burst is what 25 Gbit/s carry between two looks of the kernel, and more; the queue is long enough never to drop.
        [ "$rate" = 0 ] || ip netns exec $host tc qdisc add dev wire root tbf rate "${rate}gbit" burst 1mb latency 50ms
    done
    echo "== wire of $rate Gbit/s (0: no limit) =="
    ip netns exec $a unshare --uts taskset -c 0 sh -c 'hostname host1; exec "$@"' sh \
        mpirun --mca plm_rsh_agent "$scratch/agent" --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include 10.99.0.0/24 \
        --mca oob_tcp_if_include 10.99.0.0/24 --mca hwloc_base_binding_policy none \
        -H "10.99.0.1:$ranks,10.99.0.2:$ranks" -np $((2 * ranks)) "$program" "$@"
done
