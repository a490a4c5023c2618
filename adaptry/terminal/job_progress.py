"""Progress of registrations and transfers, shown on a terminal until they end."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from adaptry.client import JobFailed
from adaptry.terminal.errors import INTERRUPTED, CommandError

if TYPE_CHECKING:
    from rich.progress import Progress

    from adaptry.client import Client, Registration, Submission
    from adaptry.client.models import JobRead

QUIET_SECONDS = 10.0  # between two lines that no terminal can rewrite


class LeftRunning(CommandError):
    """The user interrupted the command; the server continues the job."""

    exit_code = INTERRUPTED

    def __init__(self, number: int) -> None:
        super().__init__(
            f"job {number} continues: see `adaptry job show {number}`, "
            f"or cancel it with `adaptry job cancel {number}`"
        )


class TransferBar:
    """A progress bar of bytes on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._bar = _bar() if sys.stderr.isatty() else None
        self._task = self._bar.add_task("", total=None) if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, what: str, done: int, total: int | None) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=what, completed=done, total=total)

    def show_upload(self, done: int, total: int | None = None) -> None:
        self.show("uploading", done, total)

    def show_job(self, job: "JobRead") -> None:
        self.show(f"job {job.id}: {job.step or job.state}", job.bytes_done, job.bytes_total)


class PhaseLine:
    """Rewrites its line on a terminal; elsewhere it writes a line per phase and every 10 s."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._rewrites = self._stream.isatty()
        self._started = time.monotonic()
        self._phase = ""
        self._written_at = self._started

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def show(self, phase: str) -> None:
        line = f"{self.seconds:4.0f} s  {phase}"
        if self._rewrites:
            self._stream.write(f"\r\033[K{line}")
            self._stream.flush()
        elif phase != self._phase or time.monotonic() - self._written_at >= QUIET_SECONDS:
            self._stream.write(f"{line}\n")
            self._stream.flush()
            self._written_at = time.monotonic()
        self._phase = phase

    def end(self) -> None:
        """Clear the line, so that the next output starts on its own."""
        if self._rewrites and self._phase:
            self._stream.write("\r\033[K")
            self._stream.flush()
        self._phase = ""


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn())
    return Progress(
        *columns,
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def register(client: "Client", name: str, source: str, description: str | None) -> "Registration":
    """Register a source and wait for its version. Raises LeftRunning and the client's errors."""
    submitted = client.versions.submit(name, source, description=description)
    with TransferBar() as bar:
        return _wait_for_version(client, submitted, bar)


def push(client: "Client", name: str, source: Path, description: str | None) -> "Registration":
    """Upload local files and wait for their version. Raises as `register` does."""
    with TransferBar() as bar:
        submitted = client.versions.upload(
            name, source, description=description, on_bytes=bar.show_upload
        )
        return _wait_for_version(client, submitted, bar)


def _wait_for_version(
    client: "Client", submitted: "Submission", bar: TransferBar
) -> "Registration":
    from adaptry.client import Registration

    if submitted.version is not None:
        return Registration(submitted.version, submitted.is_new)
    assert submitted.job
    try:
        job = client.jobs.wait(submitted.job.id, on_job=bar.show_job)
    except KeyboardInterrupt:
        raise LeftRunning(submitted.job.id) from None
    if job.version is None:
        raise JobFailed(job)
    return Registration(client.versions.get(job.version), bool(job.created))
