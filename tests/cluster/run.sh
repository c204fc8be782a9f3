#!/usr/bin/env bash
# Several hosts and a batch system, for real, on one machine: make test-cluster. Needs root.
#   run.sh [hosts] [batch]     both unless named; TRANSCRIPT=FILE keeps what was typed and what was said
# shellcheck disable=SC2154 # of the files it sources
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ "$(id -u)" -eq 0 ] || { echo "test-cluster: needs root, for network namespaces and a batch system of its own" >&2; exit 1; }
work=$(mktemp -d /tmp/tfbind-cluster.XXXXXX)
export TMPDIR=$work/tmp HOSTS_NAME=tfbind-$$
mkdir "$TMPDIR"
# munged, which is not root, goes through it.
chmod 711 "$work"
transcript=${TRANSCRIPT:-$work/transcript}
: > "$transcript"
# shellcheck source=/dev/null
. "$root/tests/cluster/checks.sh"
# shellcheck source=/dev/null
. "$root/tests/cluster/several_hosts.sh"
# shellcheck source=/dev/null
. "$root/tests/cluster/batch.sh"

# Also after a failure or an interrupt: nothing that was started here stays.
end() {
    trap '' INT TERM
    "$hosts" down
    "$slurm" down "$work/slurm"
    if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

check "a small data file" small_data
[ $# -gt 0 ] || set -- hosts batch
for part in "$@"; do
    case $part in
        hosts) several_hosts ;;
        batch) batch_system ;;
        *)     echo "run.sh: $part is not known: hosts or batch" >&2; exit 2 ;;
    esac
done
echo "cluster: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
