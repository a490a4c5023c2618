#!/usr/bin/env bash
# Lay the Python files of another vLLM over the installed CPU build, into a folder of its own, for the
# contract tests: the newest vLLM often has no CPU build yet. Nothing is compiled, nothing installed.
# usage: scripts/overlay-vllm.sh VERSION FOLDER
#        PYTHONPATH=FOLDER:$PWD .venv/bin/python -m pytest tests/contract
set -euo pipefail
version=$1 folder=$2
cd "$(dirname "$0")/.."
python=.venv/bin/python
installed=$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$folder/wheel"
[[ -n $(compgen -G "$folder/wheel/vllm-$version-*.whl") ]] ||
    $python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp --abi abi3 --platform manylinux_2_28_x86_64 --dest "$folder/wheel" \
        "vllm==$version"
rm -rf "$folder/vllm" "$folder"/vllm-*.dist-info
unzip -q "$folder/wheel/vllm-$version-"*.whl 'vllm/*' -x '*.so' -d "$folder"
for library in "$installed"/vllm/*.so; do
    ln -s "$library" "$folder/vllm/"
done
metadata="$folder/vllm-$version+cpu.dist-info"
mkdir "$metadata"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$metadata/METADATA"
# what newer ones import besides
grep -A99 "^orjson==" requirements/cuda.txt | sed "/[^\\]$/q" >"$folder/needs.txt"
$python -m pip install --quiet --require-hashes --no-deps --upgrade --target "$folder" -r "$folder/needs.txt"
