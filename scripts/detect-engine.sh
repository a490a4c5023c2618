#!/usr/bin/env bash
# Print the engine build for this machine: cuda where an NVIDIA GPU answers, else cpu.
set -euo pipefail

if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
    echo cuda
else
    echo cpu
fi
