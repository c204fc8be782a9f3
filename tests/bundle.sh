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
passed=0 failed=0 ended=0 bootstrap=
finish() {
    [ "$ended" -eq 1 ] || failed=$((failed + 1))
    kill ${bootstrap:+"$bootstrap"} 2>/dev/null || true
    wait
    rm -rf --one-file-system "$work"
    echo "bundle: $passed passed, $failed failed"
    [ "$failed" -eq 0 ] || exit 1
}
trap finish EXIT

# check NAME COMMAND...: what the command says is shown only where it fails. $said names the file that keeps it.
check() {
    local began=$SECONDS; said=$work/said.$((passed + failed))
    if "${@:2}" >"$said" 2>&1; then
        passed=$((passed + 1)); echo "ok      $1 ($((SECONDS - began)) s)"
    else
        failed=$((failed + 1)); echo "FAILED  $1"; tail -n 30 "$said" | sed 's/^/        /'
    fi
}

# Only lo, which Open MPI wants; nothing of this environment but where the compilers are.
mpi=(OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
    OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none)
cat >"$work/offline" <<END
#!/usr/bin/env bash
exec timeout 2400 unshare --net bash -c 'ip link set lo up && exec "\$@"' - env -i HOME="$work/home" TMPDIR="$work" \\
    CARGO_HOME="$work/cargo" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" PATH="$PATH" ${mpi[*]} "\$@"
END
# A root of its own; libtorch as folder of the unpacked portable archive.
cat >"$work/there" <<END
#!/usr/bin/env bash
exec timeout 2400 unshare --net --mount --pid --fork --kill-child bash -c '
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

unpack() { mkdir "$2" && tar -x -f "$1" -C "$2" --strip-components 1; }

# shellcheck disable=SC2016 # apt-get's own form
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | head -n 1)
unshare --mount --pid --fork --kill-child nice -n 15 debootstrap --variant=minbase "$SUITE" "$root" "$mirror" >"$work/debootstrap" 2>&1 &
bootstrap=$!

# ---- the bundle ------------------------------------------------------------------------------------------------
check "bundle: packed" packaging/bundle.sh "$work/dist"
unpack "$work/dist/tfbind-mpi-$(packaging/version)-cpu.tar.gz" "$work/bundle"
cd "$work/bundle"

# shellcheck disable=SC2016 # for the shell within
nothing_around() { "$work/offline" bash -c '! sed 1,2d /proc/net/dev | grep -v lo: && [ -z "$(ls "$CARGO_HOME")${LIBTORCH:-}" ]'; }
check "bundle: no network, no crates, no libtorch where it is built" nothing_around

check "bundle: built and installed there" "$work/offline" nice -n 15 ./install --prefix "$work/prefix"

# As its modulefile has it.
libtorch=$(sed -n 's/^set libtorch  *//p' "$work"/prefix/modulefiles/tfbind-mpi/*) || true
check "bundle: doctor, 1 and 2 ranks" "$work/offline" env PATH="$work/prefix/bin:$PATH" LD_LIBRARY_PATH="$libtorch/lib" "$work/journey"
of_bundle=$said

mkdir "$work/old" && printf '#!/bin/sh\necho cargo 1.80.1\n' >"$work/old/cargo" && chmod +x "$work/old/cargo"
old_rust() {
    ! "$work/offline" env PATH="$work/old:$PATH" ./install --prefix "$work/no" 2>&1 | tee "$work/old/said" &&
        grep -q "Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer is needed, and cargo here is 1.80.1" "$work/old/said"
}
check "bundle: a Rust that is too old is named" old_rust

# ---- the portable programs -------------------------------------------------------------------------------------
check "portable: packed from the bundle" "$work/offline" nice -n 15 make portable SITE=example
cd "$OLDPWD"
wait "$bootstrap" || { echo "debootstrap $SUITE failed:" >&2; tail "$work/debootstrap" >&2; exit 1; }
unpack "$work"/bundle/dist/*-linux-x86_64.tar.gz "$root/opt/tfbind-mpi"
mkdir "$root/opt/tfbind-mpi/libtorch"
cp "$work/journey" "$root/tmp"

another_system() {
    local libc
    libc=$("$work/there" ldd --version | head -n 1) && echo "$libc" && [ "$libc" != "$(ldd --version | head -n 1)" ] &&
        ! "$work/there" find /usr /etc /var \( -name 'libmpi*' -o -name 'libhdf5*' -o -name 'mpirun*' -o -name 'ssh' \) | grep .
}
check "portable: another libc there, no MPI, no HDF5, no ssh" another_system

check "portable: doctor, 1 and 2 ranks" "$work/there" /tmp/journey

numbers() { grep -E '^(step|loss|pr_auc|auroc) ' "$1" | sed 's/  *[0-9.]* samples.*//'; }
same_numbers() { numbers "$of_bundle" && [ "$(numbers "$of_bundle")" = "$(numbers "$1")" ]; }
check "portable: the numbers of the bundle's" same_numbers "$said"

# In place of ssh: another host name, nothing of the environment, and what mpirun asks for.
cat >"$root/tmp/agent" <<'END'
#!/bin/sh
host=$1; shift
exec unshare --uts sh -c "hostname $host; exec env -i PATH=/usr/bin:/bin sh -c '$*'"
END
chmod +x "$root/tmp/agent"
two_hosts() {
    "$work/there" env OMPI_MCA_plm_rsh_agent=/tmp/agent OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_btl_tcp_if_include=lo \
        OMPI_MCA_btl=tcp,self mpirun -np 2 -H "$(hostname):1,other:1" tfbind-mpi doctor | tee "$work/hosts" &&
        grep -Eq '2 hosts \(.*other.*\): 1 ranks each' "$work/hosts"
}
check "portable: mpirun starts a rank on another host" two_hosts

no_libtorch_there() {
    local words
    ! words=$("$work/there" env LIBTORCH=/opt tfbind-mpi doctor 2>&1) && echo "$words" &&
        [ "$words" = "tfbind-mpi: /opt holds no lib/libtorch_cpu.so" ]
}
check "portable: a missing libtorch is named" no_libtorch_there
ended=1
