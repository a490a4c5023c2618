"""Reads that may never return, as of a disk that hangs: each disk has threads of its own."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

from registry.errors import SourceTimeout
from registry.places import Places
from registry.sources.disks.idle_threads import IdleThreads

MAX_READS = 16  # of one disk at a time
LOOK_SECONDS = 60.0  # for a look at a folder

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_threads = IdleThreads("adaptry-sources")


@dataclass(frozen=True, slots=True)
class Share:
    """Which disk a read is of, and which of those who read from it asked for it.

    `owner`: a tenant, or a folder that the platform reads.
    """

    disk: str
    owner: str


@dataclass(frozen=True, slots=True)
class _Read:
    owner: str
    future: "Future[Any]"
    work: Callable[[], Any]


@dataclass(slots=True)
class _Disk:
    places: Places
    waiting: list[_Read] = field(default_factory=list)

    def begin(self) -> list[_Read]:
        """Those that get a place now. Cancelled ones are forgotten."""
        begun, still = list[_Read](), list[_Read]()
        for read in self.waiting:
            if read.future.cancelled():
                continue
            if self.places.has_place(read.owner):
                self.places.take(read.owner)
                begun.append(read)
            else:
                still.append(read)
        self.waiting = still
        return begun


class ReadThreads:
    """At most `count` threads for each disk, of which no owner can take all.

    So a disk that hangs holds up no other's reads, and a folder of it those of no other tenant. A
    read that waits can be cancelled.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._disks: dict[str, _Disk] = {}
        self._lock = threading.Lock()

    def submit(self, share: Share, work: Callable[[], Result]) -> "Future[Result]":
        future: Future[Result] = Future()
        with self._lock:
            disk = self._disks.setdefault(share.disk, _Disk(Places(self._count)))
            disk.waiting.append(_Read(share.owner, future, work))
            begun = disk.begin()
        self._start(share.disk, begun)
        return future

    def _start(self, disk: str, begun: list[_Read]) -> None:
        for read in begun:
            _threads.run(partial(self._work, disk, read))

    def _work(self, disk: str, read: _Read) -> None:
        try:
            _run(read.future, read.work)
        finally:
            self._start(disk, self._end(disk, read.owner))

    def _end(self, name: str, owner: str) -> list[_Read]:
        """Give its place back; those that get one now."""
        with self._lock:
            disk = self._disks[name]
            disk.places.give_back(owner)
            begun = disk.begin()
            if not disk.places.taken:
                del self._disks[name]
        return begun


def _run(future: "Future[Any]", work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


_readers = ReadThreads(MAX_READS)


async def look_in_thread(
    share: Share,
    look: Callable[Parameters, Result],
    *args: Parameters.args,
    **kwargs: Parameters.kwargs,
) -> Result:
    """As `asyncio.to_thread`, for looks at the folders to register from.

    They may be on a disk that hangs, and a read that hangs can't be ended. In threads of their own
    such reads keep only each other waiting, and neither the database nor uploads.
    Raises SourceTimeout.
    """
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await begin_read(share, partial(look, *args, **kwargs))
    except TimeoutError:
        raise SourceTimeout(LOOK_SECONDS) from None


def begin_read(share: Share, work: Callable[[], Result]) -> "asyncio.Future[Result]":
    """As `look_in_thread`, for as long as it takes. To be called on an event loop."""
    context = contextvars.copy_context()
    return asyncio.wrap_future(_readers.submit(share, partial(context.run, work)))
