"""Following a job to its end, with a bar where a person looks on."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from adaptry.errors import CommandError, Refused
from adaptry.rest import ACCEPTED, CREATED, Json, RestClient

if TYPE_CHECKING:
    from rich.progress import Progress

LOOK_SECONDS = 0.2
UNFINISHED = frozenset({"receiving", "queued", "running"})


class LeftRunning(CommandError):
    """The person left; the server goes on."""

    exit_code = 130

    def __init__(self, number: object) -> None:
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

    def show_job(self, job: Json) -> None:
        done, total = job.get("bytes_done"), job.get("bytes_total")
        step = job.get("step") or job.get("state")
        self.show(
            f"job {job.get('id')}: {step}",
            done if isinstance(done, int) else 0,
            total if isinstance(total, int) else None,
        )


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


class CountedFile:
    """A file for an upload that tells how much of it has been read."""

    def __init__(self, file: BinaryIO, bar: TransferBar, before: int, total: int) -> None:
        self._file = file
        self._bar = bar
        self._done = before
        self._total = total

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._done += len(chunk)
        self._bar.show("uploading", self._done, self._total)
        return chunk

    def fileno(self) -> int:
        """By which httpx learns its size."""
        return self._file.fileno()


def registered(
    client: RestClient, name: str, source: str, description: str | None
) -> tuple[Json, bool]:
    """The version of what is at the source, and whether it is a new one."""
    status, answer = client.register(name, source, description)
    with TransferBar() as bar:
        return _settled(client, status, answer, bar)


def pushed(
    client: RestClient, name: str, files: list[Path], description: str | None
) -> tuple[Json, bool]:
    """The same for files of this machine."""
    with TransferBar() as bar, _opened(files, bar) as opened:
        job = client.push(name, opened, description)
        return _settled(client, ACCEPTED, job, bar)


@contextmanager
def _opened(files: list[Path], bar: TransferBar) -> Iterator[list[tuple[str, CountedFile]]]:
    sizes = [file.stat().st_size for file in files]
    handles = [file.open("rb") for file in files]
    try:
        yield [
            (file.name, CountedFile(handle, bar, sum(sizes[:n]), sum(sizes)))
            for n, (file, handle) in enumerate(zip(files, handles, strict=True))
        ]
    finally:
        for handle in handles:
            handle.close()


def _settled(client: RestClient, status: int, answer: Json, bar: TransferBar) -> tuple[Json, bool]:
    if status != ACCEPTED:
        return answer, status == CREATED
    job = _followed(client, answer, bar)
    if job.get("state") != "succeeded":
        detail = job.get("detail") or f"job {job.get('id')} is {job.get('state')}"
        raise Refused(status, str(job.get("code") or ""), str(detail))
    return client.version(str(job.get("version"))), bool(job.get("created"))


def _followed(client: RestClient, job: Json, bar: TransferBar) -> Json:
    number = job.get("id")
    try:
        while job.get("state") in UNFINISHED:
            bar.show_job(job)
            time.sleep(LOOK_SECONDS)
            job = client.job(str(number))
    except KeyboardInterrupt:
        raise LeftRunning(number) from None
    return job
