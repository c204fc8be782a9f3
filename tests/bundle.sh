#!/usr/bin/env bash
# `make test-bundle`: builds a bundle on a machine cut off from the network, with an empty cargo and no libtorch, and
# trains with it; then runs what `make portable` packs in another Debian (SUITE, by default one with a newer glibc), where
# there is neither MPI nor HDF5. Needs root for its network, mounts and chroot; leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
SUITE=${SUITE:-trixie}
[ "$(id -u)" -eq 0 ] || { echo "$0: only root can cut off the network and change the root" >&2; exit 1; }
unset LIBTORCH
export TORCH=cpu
work=$(mktemp -d)
root=$work/$SUITE
trap 'kill "$bootstrap" 2>/dev/null || true; wait; rm -rf --one-file-system "$work"' EXIT

passed=0 failed=0
# check NAME COMMAND...: what the command says is shown only where it fails.
check() {
    local name=$1 began=$SECONDS; shift
    if (set -euo pipefail; timeout --foreground 1800 "$@") >"$work/said" 2>&1; then
        passed=$((passed + 1)); echo "ok      $name ($((SECONDS - began)) s)"
    else
        failed=$((failed + 1)); echo "FAILED  $name"; tail -n 30 "$work/said" | sed 's/^/        /'
    fi
    cp "$work/said" "$work/${name//[ \/]/_}"
}

# Only lo, which Open MPI wants; nothing of this environment but where the compilers are.
mpi=(OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
    OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none)
cat >"$work/offline" <<END
#!/usr/bin/env bash
exec unshare --net bash -c 'ip link set lo up && exec "\$@"' - env -i HOME="$work/home" TMPDIR="$work" \\
    CARGO_HOME="$work/cargo" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" PATH="$PATH" ${mpi[*]} "\$@"
END
# A root of its own; libtorch as folder of the unpacked portable archive.
cat >"$work/there" <<END
#!/usr/bin/env bash
exec unshare --net --mount --pid --fork --kill-child bash -c '
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && mount --rbind /sys "$root/sys" && ip link set lo up
    mount --bind "$PWD/.cache/libtorch" "$root/opt/tfbind-mpi/libtorch"
    exec chroot "$root" env -i HOME=/tmp PATH=/opt/tfbind-mpi/bin:/usr/bin:/bin ${mpi[*]} "\$@"' - "\$@"
END
# From simulated genome to two trained ranks, with the programs that PATH finds.
cat >"$work/journey" <<'END'
#!/usr/bin/env bash
set -euo pipefail
cd "$(mktemp -d)"
tfbind-prep simulate --out genome --contigs 4 --contig-length 60000
tfbind-prep make --fasta genome/genome.fa --signal DNase=genome/dnase.bigWig --peaks CTCF=genome/ctcf.narrowPeak \
    --length 2048 --valid sim3 --test sim4 --out data.h5
mpirun -np 2 tfbind-mpi doctor --data data.h5
tfbind-mpi train --data data.h5 --run one --epochs 1 --batch 4 --threads 1
mpirun -np 2 tfbind-mpi train --data data.h5 --run two --epochs 1 --batch 4 --threads 1
mpirun -np 2 tfbind-mpi evaluate two
test -s two/best.safetensors
END
chmod +x "$work"/{offline,there,journey}
mkdir "$work/home" "$work/cargo"

unpack() { mkdir "$work/$2" && tar -x -f "$1" -C "$work/$2" --strip-components 1; }

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | head -n 1)
unshare --mount --pid --fork --kill-child nice -n 15 debootstrap --variant=minbase "$SUITE" "$root" "$mirror" >"$work/debootstrap" 2>&1 &
bootstrap=$!

check "bundle: packed" packaging/bundle.sh
unpack "$(ls -t dist/*-cpu.tar.gz | head -n 1)" bundle
cd "$work/bundle"
check "bundle: no network where it is built" "$work/offline" bash -c \
    '[ "$(sed 1,2d /proc/net/dev | cut -d : -f 1 | xargs)" = lo ] && [ -z "$(ls "$CARGO_HOME")" ] && [ -z "${LIBTORCH:-}" ]'
check "bundle: built and installed" "$work/offline" nice -n 15 ./install --prefix "$work/prefix"
check "bundle: doctor, 1 and 2 ranks" "$work/offline" env PATH="$work/prefix/bin:$PATH" "$work/journey"
mkdir "$work/old" && printf '#!/bin/sh\necho cargo 1.80.1\n' >"$work/old/cargo" && chmod +x "$work/old/cargo"
check "bundle: an old Rust is named" bash -c '
    said=$("$0"/offline env PATH="$0/old:$PATH" ./install --prefix "$0/no" 2>&1) && exit 1
    grep "Rust 1\.91 or newer is needed, and cargo here is 1\.80\.1" <<<"$said"' "$work"

check "portable: packed from the bundle" "$work/offline" nice -n 15 make portable SITE=loaded
cd - >/dev/null
wait "$bootstrap" || { echo "debootstrap $SUITE failed:" >&2; tail "$work/debootstrap" >&2; exit 1; }
mkdir "$root/opt/tfbind-mpi"
tar -x -f "$work"/bundle/dist/*-linux-x86_64.tar.gz -C "$root/opt/tfbind-mpi" --strip-components 1
mkdir "$root/opt/tfbind-mpi/libtorch"
cp "$work/journey" "$root/tmp"
check "portable: another libc there, no MPI, no HDF5" bash -c '
    "$0"/there ldd --version | head -n 1
    [ "$("$0"/there ldd --version | head -n 1)" != "$(ldd --version | head -n 1)" ]
    [ -z "$("$0"/there find /usr /etc -name "lib*mpi.so*" -o -name "libhdf5*" -o -name "mpirun*")" ]' "$work"
check "portable: doctor, 1 and 2 ranks" "$work/there" /tmp/journey
check "portable: the results of the bundle" bash -c '
    numbers() { grep -E "^(step|loss|pr_auc|auroc)" "$1" | sed "s/  *[0-9.]* samples.*//"; }
    numbers "$0/portable:_doctor,_1_and_2_ranks"
    [ "$(numbers "$0/portable:_doctor,_1_and_2_ranks")" = "$(numbers "$0/bundle:_doctor,_1_and_2_ranks")" ]' "$work"
check "portable: a missing libtorch is named" bash -c '
    said=$("$0"/there env LIBTORCH=/opt tfbind-mpi doctor 2>&1) && exit 1
    [ "$said" = "tfbind-mpi: /opt holds no lib/libtorch_cpu.so" ]' "$work"

echo "bundle: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
