"""Harms a server in ways that need no privilege: its wall clock, and its disk."""

import mmap
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("inject.c")
_FORMAT = "=qq"


class Harm:
    """`environment` is for the server: what is set here counts in it and its children."""

    def __init__(self, folder: Path) -> None:
        library, shared = folder / "harm.so", folder / "harm"
        compiling = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"]
        subprocess.run(compiling, check=True)
        shared.write_bytes(struct.pack(_FORMAT, 0, 0))
        with shared.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)
        self.environment = {"LD_PRELOAD": str(library), "HARM": str(shared)}

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
