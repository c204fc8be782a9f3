#!/usr/bin/env bash
# Packs what building needs on a machine without a network into one archive in FOLDER (dist): the sources of this
# checkout, all crates, and the builds of libtorch that TORCH names (see modules/libtorch). Rust, a C++ compiler, MPI,
# HDF5 and libclang are those of the machine; ./install within asks for them.
#   packaging/bundle.sh [FOLDER]
set -euo pipefail
dist=$(realpath -m "${1:-"$(dirname "$0")/../dist"}")
cd "$(dirname "$0")/.."
unset LIBTORCH
# shellcheck source=modules/libtorch
. modules/libtorch
libtorch_take
name=tfbind-mpi-$(packaging/version)
mkdir -p "$dist"
stage=$(mktemp -d "$dist/.bundle.XXXXXX")
trap 'rm -rf "$stage"' EXIT

git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$stage"
cp packaging/install "$stage"
packaging/version >"$stage/VERSION"
chmod 755 "$stage"
# What cargo prints is what tells it later to look for crates in vendor/.
crates=$(cd "$stage" && cargo vendor --locked --versioned-dirs vendor 2>vendor.log) || { cat "$stage/vendor.log" >&2; exit 1; }
rm "$stage/vendor.log"
printf '\n%s\n' "$crates" >>"$stage/.cargo/config.toml"
folders=()
for build in ${TORCH:-cpu}; do folders+=("$(libtorch_folder "$build")"); done
archive=$dist/$name-$(tr ' ' - <<<"${TORCH:-cpu}").tar.gz
# Names only are given the folder, not what links point to.
tar -c --owner 0 --group 0 --transform "flags=r;s,^\.\(/\|$\),$name/," --transform "flags=r;s,^.cache,$name/.cache," \
    -C "$stage" . -C "$PWD" "${folders[@]}" | gzip -1 >"$archive.partial"
mv "$archive.partial" "$archive"
echo "$archive  $(du -h "$archive" | cut -f 1)"
echo "there: tar xf ${archive##*/} && cd $name && ./install --prefix FOLDER"
