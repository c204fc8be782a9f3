#!/usr/bin/env bash
# Installs what `run.py` compares with into a virtual environment of its own: benches/peers/setup.sh [FOLDER]
# What cannot be installed leaves its reason in FOLDER/NAME.failed, and the rest goes on; what is there is left alone.
# Needs python3 with venv, and for Horovod mpicc, g++ and make. About 6 GB: the registry's PyTorch brings CUDA with it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
env=$(realpath -m "${1:-.cache/peers}")
torch=torch==2.11.0          # the libtorch of modules/debian
keras=tensorflow-cpu==2.21.0 # with Keras 3
horovod=horovod==0.28.1      # the last release

if [ ! -x "$env/bin/python" ]; then
    python3 -m venv "$env" || { echo "peers: python3 -m venv $env failed: no peer is installed" >&2; exit 1; }
fi
export PATH="$env/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1

# install NAME MODULE COMMAND...: the command's last words are the reason if the module is not there afterwards.
install() {
    local name=$1 module=$2 log=$env/$1.log
    shift 2
    if ! python -c "import $module" 2>/dev/null; then
        echo "peers: installing $name"
        "$@" > "$log" 2>&1
        python -c "import $module" >> "$log" 2>&1 || { tail -n 1 "$log" > "$env/$name.failed"; return; }
    fi
    rm -f "$env/$name.failed"
}

# Horovod asks for C++14, PyTorch since 2.1 for C++17.
build_horovod() {
    local folder
    folder=$(mktemp -d) || return
    python -m pip install 'setuptools<70' wheel packaging cmake==3.27.9 cloudpickle psutil pyyaml cffi &&
        python -m pip download --no-deps --no-binary :all: --no-build-isolation -d "$folder" "$horovod" &&
        tar xzf "$folder"/horovod-*.tar.gz -C "$folder" --strip-components 1 &&
        sed -i 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 17/' "$folder/CMakeLists.txt" "$folder/horovod/torch/CMakeLists.txt" &&
        HOROVOD_WITH_MPI=1 HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_GLOO=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 \
            python -m pip install --no-build-isolation --no-deps "$folder"
    local code=$?
    rm -rf "$folder"
    return $code
}

install torch torch python -m pip install "$torch" numpy
install keras tensorflow python -m pip install "$keras"
install horovod horovod.torch build_horovod
