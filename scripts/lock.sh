#!/usr/bin/env bash
# Write the lock files in requirements/ from pyproject.toml. Arguments go to uv, such as --upgrade.
# Needs .venv/bin/uv and, for the CPU lock, the torch wheel that requirements/torch-cpu.txt names.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=.venv/bin/uv
common=(--no-config --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet "$@")
cpu=(pyproject.toml --extra cpu --extra replicas --override requirements/overrides-cpu.txt)
folders=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
unset UV_FIND_LINKS

compile() {
    local name=$1
    shift
    echo "==> requirements/$name.txt"
    "$uv" pip compile "${common[@]}" "$@" -o "requirements/$name.txt" >/dev/null
}

with_cpu_torch() {
    if [[ -n $folders ]]; then
        UV_FIND_LINKS=${folders// /,} "$@"
    else
        UV_TORCH_BACKEND=cpu "$@"
    fi
}

leave_out() { sed 's/^/--no-emit-package=/'; }
# Without what a lock holds for some Pythons or systems only: the others may need it for dev.
names_in() {
    awk -F '[ =]' '
        /^[a-z0-9]/ { lines[$1]++ }
        /^[^;]* ; (python_full_version [<>=]+ .[0-9.]+.|sys_platform == .[a-z0-9]+.) \\$/ { partly[$1]++ }
        END { for (name in lines) if (lines[name] > 1 || !partly[name]) print name }
    ' "$1" | sort
}

compile bootstrap requirements/bootstrap.in
common+=(-c requirements/bootstrap.txt)

compile mlflow requirements/mlflow.in
compile peers requirements/peers.in

mapfile -t torch_family < <(printf '%s\n' torch torchvision torchaudio torchcodec | leave_out)
with_cpu_torch compile cpu "${cpu[@]}" "${torch_family[@]}"

# The same versions on both engines wherever vLLM allows it: an existing file is uv's preference.
[[ -e requirements/cuda.txt ]] || cp requirements/cpu.txt requirements/cuda.txt
compile cuda pyproject.toml --extra cuda --extra replicas

# Only what the runtime locks do not have, so that one dev.txt serves both of them.
mapfile -t runtime < <(names_in requirements/cpu.txt | leave_out)
with_cpu_torch compile dev "${cpu[@]}" --group dev -c requirements/cpu.txt \
    "${torch_family[@]}" "${runtime[@]}"

# One dev.txt for both engines only works while the CUDA lock has nothing of it in another version.
both=$(comm -12 <(names_in requirements/dev.txt) <(names_in requirements/cuda.txt) | xargs)
if [[ -n $both ]]; then
    echo "lock: in both dev.txt and cuda.txt: $both" >&2
    exit 1
fi
