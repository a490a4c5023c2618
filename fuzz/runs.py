"""The parts of `make fuzz`, each in a separate process: 0 if nothing was found."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fuzz.processes import ROOT

Done = subprocess.CompletedProcess[str]


def guided(target: str, options: Sequence[str], *, folder: Path) -> Done:
    """One run of libFuzzer in a separate process; it writes into the folder."""
    command = [sys.executable, "-m", "fuzz.guided", target, f"-artifact_prefix={folder}/"]
    return _run([*command, *options], folder)


def adapters(kind: str, *, folder: Path, count: int, seed: int) -> Done:
    """`fuzz.adapters` in a separate process."""
    command = [sys.executable, "-m", "fuzz.adapters", kind, str(folder), str(count), str(seed)]
    return _run(command, folder)


def _run(command: Sequence[str], folder: Path) -> Done:
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
