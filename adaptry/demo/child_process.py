"""Server as a child process: its log, its last error, its orderly shutdown."""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

# Seconds before the next, harsher signal: the server ends its streams on SIGINT.
SHUTDOWN = ((signal.SIGINT, 15.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

_ERROR = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Refused)\b: .+|adaptry: .+)$")
_CONSEQUENCE = re.compile(r"See (?:root cause|stack trace) above")


class Stop(BaseException):
    """This command should end: Ctrl-C, `kill`, or a closed terminal."""


class ServerProcess:
    """A child in its own process group, so that the terminal's Ctrl-C reaches only us."""

    def __init__(self, command: Sequence[str], log: Path, folder: Path) -> None:
        self.log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within this time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """End it, gently first. Another Stop meanwhile skips to the next signal."""
        for number, timeout_seconds in SHUTDOWN:
            try:
                if self.exit_code() is not None:
                    return
                if number == signal.SIGKILL:  # the engine's processes go with it
                    os.killpg(self.pid, number)
                else:
                    self._process.send_signal(number)
                if self.wait(timeout_seconds):
                    return
            except (Stop, ProcessLookupError):
                continue

    def log_text(self, last_bytes: int = 65536) -> str:
        """The end of the log."""
        with self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - last_bytes))
            return log.read().decode(errors="replace")


def last_words(log_text: str) -> str:
    """The line that best explains why a server ended: the last error that is no consequence."""
    lines = [line.strip() for line in log_text.splitlines() if line.strip()]
    errors = (_ERROR.search(line) for line in reversed(lines))
    for error in errors:
        if error and not _CONSEQUENCE.search(error[1]):
            return error[1]
    return lines[-1] if lines else "it logged nothing"
