"""One line that shows that something goes on: what, and for how long."""

import sys
import time
from typing import TextIO

QUIET_SECONDS = 10.0  # between two lines where no terminal can rewrite one


class Progress:
    """Rewrites its line on a terminal; elsewhere it writes a line per phase and every 10 s."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._rewrites = self._stream.isatty()
        self._started = time.monotonic()
        self._phase = ""
        self._said = self._started

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def show(self, phase: str) -> None:
        line = f"{self.seconds:4.0f} s  {phase}"
        if self._rewrites:
            self._stream.write(f"\r\033[K{line}")
            self._stream.flush()
        elif phase != self._phase or time.monotonic() - self._said >= QUIET_SECONDS:
            self._stream.write(f"{line}\n")
            self._stream.flush()
            self._said = time.monotonic()
        self._phase = phase

    def end(self) -> None:
        """Leave the line, so that what follows starts on its own."""
        if self._rewrites and self._phase:
            self._stream.write("\r\033[K")
            self._stream.flush()
        self._phase = ""
