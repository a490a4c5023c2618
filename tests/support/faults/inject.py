"""Harms a server in ways that need no privilege: its wall clock, and its disk.

Processes that servers are forked from have the library preloaded, which does nothing in a server
that is given no harm: to import vLLM once more for those that are would take ten seconds of CPU.
"""

import atexit
import ctypes
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

HARM, PRELOADED = "HARM", "LD_PRELOAD"
COMPILER = "cc"
_SOURCE = Path(__file__).with_name("inject.c")
_FORMAT = "=qq"


@cache
def library() -> Path:
    """Compiled once for this process and its children."""
    folder = Path(tempfile.mkdtemp(prefix="adaptry-harm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    compiled = folder / "harm.so"
    compiling = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(compiled), str(_SOURCE), "-ldl"]
    subprocess.run(compiling, check=True)
    return compiled


def preloading(environment: Mapping[str, str]) -> dict[str, str]:
    """The same, for a process that servers are forked from; only those that are harmed need it."""
    if shutil.which(COMPILER) is None:
        return dict(environment)
    preloaded = filter(None, (str(library()), environment.get(PRELOADED)))
    return {**environment, PRELOADED: ":".join(preloaded)}


def obey_harm() -> None:
    """In a fork that has just been given its environment."""
    if HARM in os.environ:
        ctypes.CDLL(None).harm_from(os.fsencode(os.environ[HARM]))


class Harm:
    """`environment` is for the server: what is set here counts in it and its children."""

    def __init__(self, folder: Path) -> None:
        shared = folder / "harm"
        shared.write_bytes(struct.pack(_FORMAT, 0, 0))
        with shared.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)
        self.environment = {PRELOADED: str(library()), HARM: str(shared)}

    def set_clock(self, seconds: int) -> None:
        """So far from the real time."""
        self._write(seconds, 0)

    def stop_disk(self) -> None:
        """Who opens the weights of an adapter waits until `end`."""
        self._write(0, 1)

    def end(self) -> None:
        self._write(0, 0)

    def _write(self, clock_seconds: int, disk_stands_still: int) -> None:
        self._shared[:] = struct.pack(_FORMAT, clock_seconds, disk_stands_still)
