"""Following a registration to its end, with a bar where a person looks on."""

import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from adaptry.client import Client, JobFailed, Registration
from adaptry.client.models import JobRead
from adaptry.terminal.errors import INTERRUPTED, CommandError

if TYPE_CHECKING:
    from rich.progress import Progress


class LeftRunning(CommandError):
    """The person left; the server goes on."""

    exit_code = INTERRUPTED

    def __init__(self, number: int) -> None:
        super().__init__(
            f"job {number} goes on: see `adaptry job show {number}`, "
            f"or end it with `adaptry job cancel {number}`"
        )


class TransferBar:
    """Bytes done and to come, on standard error; nothing if that is no terminal."""

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

    def show_job(self, job: JobRead) -> None:
        self.show(f"job {job.id}: {job.step or job.state}", job.bytes_done, job.bytes_total)


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


def registered(client: Client, name: str, source: str, description: str | None) -> Registration:
    """The version of what is at the source. Raises LeftRunning and what the client raises."""
    submitted = client.versions.submit(name, source, description=description)
    if submitted.version is not None:
        return Registration(submitted.version, submitted.is_new)
    assert submitted.job
    with TransferBar() as bar:
        return _settled(client, submitted.job, bar)


def pushed(client: Client, name: str, source: Path, description: str | None) -> Registration:
    """The same for files of this machine."""
    with TransferBar() as bar:
        job = client.versions.upload(
            name, source, description=description, on_bytes=bar.show_upload
        )
        return _settled(client, job, bar)


def _settled(client: Client, job: JobRead, bar: TransferBar) -> Registration:
    try:
        job = client.jobs.wait(job.id, on_job=bar.show_job)
    except KeyboardInterrupt:
        raise LeftRunning(job.id) from None
    if job.version is None:
        raise JobFailed(job)
    return Registration(client.versions.get(job.version), bool(job.created))
