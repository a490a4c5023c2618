"""Whether a server stays as it is: memory, files, threads and the size of its database."""

import asyncio
import contextlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

MIB = 2**20
SAMPLE_SECONDS = 1.0
_PART = 5  # the second fifth is compared with the last


@dataclass(frozen=True, slots=True)
class Sample:
    """The server and all its children together; `database_bytes` with SQLite's own log.

    `changes`: how many the registry had taken by then.
    """

    memory_bytes: int
    files: int
    threads: int
    database_bytes: int
    changes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Medians of the second fifth and of the last."""

    what: str
    before: float
    after: float
    allowed: float

    @property
    def is_flat(self) -> bool:
        return self.after - self.before <= self.allowed


def _take(process: psutil.Process, database: Path, changes: int) -> Sample:
    family = [process, *process.children(recursive=True)]
    logs = (database, database.with_name(f"{database.name}-wal"))
    return Sample(
        memory_bytes=sum(each.memory_info().rss for each in family),
        files=sum(each.num_fds() for each in family),
        threads=sum(each.num_threads() for each in family),
        database_bytes=sum(log.stat().st_size for log in logs if log.exists()),
        changes=changes,
    )


async def watch(pid: int, database: Path, changes: Callable[[], int], into: list[Sample]) -> None:
    """Until cancelled."""
    process = psutil.Process(pid)
    while True:
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that ended meanwhile
            into.append(_take(process, database, changes()))
        await asyncio.sleep(SAMPLE_SECONDS)


def growth(samples: Sequence[Sample]) -> list[Growth]:
    """What the registry was told may take room in the database; nothing else may grow."""
    size = max(1, len(samples) // _PART)
    early, late = samples[size : 2 * size] or samples[:1], samples[-size:]
    more_changes = late[-1].changes - early[0].changes
    memory = _of("memory, bytes", early, late, "memory_bytes", 0)
    return [
        replace(memory, allowed=0.03 * memory.before),
        _of("open files", early, late, "files", 16),
        _of("threads", early, late, "threads", 8),
        _of("database, bytes", early, late, "database_bytes", 8192 * more_changes + 8 * MIB),
    ]


def _of(
    what: str, early: Sequence[Sample], late: Sequence[Sample], name: str, allowed: float
) -> Growth:
    medians = [float(statistics.median(getattr(s, name) for s in part)) for part in (early, late)]
    return Growth(what, medians[0], medians[1], allowed)
