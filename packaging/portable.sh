#!/usr/bin/env bash
# Gathers what runs on another Linux x86-64 without MPI and HDF5: the programs, their libraries and as much of Open MPI
# as starts ranks over shared memory and TCP. Of the system there it takes libc and libstdc++; libtorch is found when
# a program starts (see packaging/launch).
#   packaging/portable.sh FOLDER [PROGRAM]...    into FOLDER, which is replaced; further programs beside the usual ones
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
into=$(realpath -m "$1"); shift
stop() { echo "$0: $*" >&2; exit 1; }
command -v patchelf >/dev/null || stop "patchelf is missing, which lets a program find the libraries beside it"
mpi=$(ompi_info --version 2>/dev/null | head -n 1) || true
[[ $mpi == "Open MPI v4."* ]] || stop "only Open MPI 4 can be carried; here is ${mpi:-no ompi_info}"
of_openmpi() { ompi_info --parsable --path "$1" | cut -d : -f 3 | head -n 1; }

# What libtorch and its CUDA bring, and what belongs to the C and C++ libraries of the system there.
elsewhere='/(lib(torch|c10|gomp|nccl|nv[a-zA-Z]*|cu(da|dart|dnn|pti|blas|blasLt|fft|file|rand|solver|sparse|sparseLt))[._]'
elsewhere+='|ld-linux|lib(c|m|mvec|dl|rt|util|resolv|pthread|anl|nsl|stdc\+\+|gcc_s)\.)'
# Networks other than TCP have drivers of the system there; oshmem is no MPI.
networks='lib(ucp|uct|ucs|fabric|psm|psm2|psm_infinipath|ibverbs|rdmacm|oshmem)\.'

libraries_of() {
    local found missing
    found=$(ldd "$@")
    missing=$(awk '/not found/ {print $1}' <<<"$found" | sort -u | xargs)
    [ -z "$missing" ] || stop "not found for $*: $missing"
    awk '$3 ~ /^\// {print $3}' <<<"$found" | sort -u
}

rm -rf "$into"
mkdir -p "$into"/{bin,libexec,lib/openmpi,lib/pmix,share/openmpi,share/libtorch,etc}
cp packaging/launch "$into/libexec"
for program in target/release/tfbind-mpi target/release/tfbind-prep "$@" "$(command -v mpirun)" "$(command -v orted)"; do
    name=${program##*/}
    strip -o "$into/libexec/$name" "$(readlink -f "$program")"
    ln -s ../libexec/launch "$into/bin/$name"
    libraries_of "$program"
done >"$into/libraries"

carry_plugins() {
    local folder=$1 plugin libraries; shift
    for plugin in "$@"; do
        libraries=$(libraries_of "$plugin")
        ! grep -Eq "$networks" <<<"$libraries" || continue
        cp "$plugin" "$into/lib/$folder"
        printf '%s\n' "$libraries" >>"$into/libraries"
    done
}
plugins=$(of_openmpi pkglibdir)
carry_plugins openmpi "$plugins"/mca_*.so
# PMIx, by which mpirun speaks with its ranks, has plugins beside it; one within Open MPI has none in files.
pmix=$(grep -m 1 '/libpmix\.' "$into/libraries" || true)
[ -z "$pmix" ] || carry_plugins pmix "$(dirname "$(readlink -f "$pmix")")"/pmix/*.so
sort -u "$into/libraries" | grep -Ev "$elsewhere" | xargs cp -L -t "$into/lib"
cp "$(of_openmpi pkgdatadir)"/*.txt "$into/share/openmpi"
# Instead of the site's parameters, which name its network.
echo 'btl_base_warn_component_unused = 0' >"$into/etc/openmpi-mca-params.conf"
torch=$(sed -n 's,/lib/libtorch_cpu.so$,,p' "$into/libraries" | head -n 1)
(cd "$torch" && cp --parents include/torch/headeronly/version.h "$into/share/libtorch")
rm "$into/libraries"

# RPATH and not RUNPATH, so that a loaded module's LD_LIBRARY_PATH brings in no other MPI.
chmod -R u+w "$into"
rpath() { patchelf --force-rpath --set-rpath "\$ORIGIN/$1" "${@:2}"; }
find "$into/libexec" -type f ! -name launch -print0 | while IFS= read -r -d '' program; do rpath ../lib "$program"; done
rpath . "$into"/lib/*.so*
find "$into"/lib/*/ -name '*.so' -print0 | while IFS= read -r -d '' plugin; do rpath .. "$plugin"; done

glibc=$(find "$into/libexec" "$into/lib" -type f ! -name launch -exec objdump -T {} + | grep -o 'GLIBC_2\.[0-9]*' | sort -uV | tail -n 1)
cat >"$into/README" <<END
tfbind-mpi $(packaging/version) for Linux x86-64 with ${glibc/_/ } or newer and libstdc++. It carries Open MPI and HDF5.
libtorch is found when it starts: LIBTORCH, or libtorch/ beside bin/, or that of python3 (pip install torch), which has
to be the version it was built with.

    bin/tfbind-mpi doctor
    bin/mpirun -np 2 bin/tfbind-mpi train --data data.h5 --run run

Ranks speak over shared memory and TCP: for InfiniBand build tfbind-mpi with the MPI of the cluster.
END
