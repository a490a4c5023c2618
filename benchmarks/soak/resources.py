"""Resource samples of a server, and detection of growth."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import psutil

KIB, MIB = 2**10, 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of the server, and the amount of work by then."""

    seconds: float
    requests: int
    changes: int
    live_bytes: int
    server_bytes: int
    engine_bytes: int
    shared_bytes: int
    files: int
    threads: int
    tasks: int
    database_bytes: int
    database_log_bytes: int
    store_bytes: int
    log_bytes: int
    series: int


@dataclass(frozen=True, slots=True)
class Places:
    """The process of one server, and the folders that it writes."""

    process: psutil.Process
    database: Path
    store: Path
    log: Path
    tasks: Path

    def sample(
        self, seconds: float, requests: int, changes: int, live_bytes: int, series: int
    ) -> Sample:
        """Raises NoSuchProcess if a child ended meanwhile."""
        children = self.process.children(recursive=True)
        family = [self.process, *children]
        server, *others = written = [_written_bytes(each.pid) for each in family]
        return Sample(
            seconds=seconds,
            requests=requests,
            changes=changes,
            live_bytes=live_bytes,
            server_bytes=server.own_bytes,
            engine_bytes=sum(each.own_bytes for each in others),
            shared_bytes=sum(each.shared_bytes for each in written),
            files=sum(each.num_fds() for each in family),
            threads=sum(each.num_threads() for each in family),
            tasks=int(self.tasks.read_text() or 0) if self.tasks.exists() else 0,
            database_bytes=_size_bytes(self.database),
            database_log_bytes=_size_bytes(self.database.with_name(f"{self.database.name}-wal")),
            store_bytes=sum(map(_size_bytes, self.store.rglob("*"))),
            log_bytes=_size_bytes(self.log),
            series=series,
        )


class _Written(NamedTuple):
    """What a process wrote. Not files that are mapped, such as libraries: what counts of these
    depends on who else on the machine has them, a test of ours for instance."""

    own_bytes: int
    shared_bytes: int


def _written_bytes(pid: int) -> _Written:
    """Read once: the kernel walks all pages of the process for it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    return _Written(KIB * kib["Pss_Anon"], KIB * kib["Pss_Shmem"])


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0


@dataclass(frozen=True, slots=True)
class Flatness:
    """One figure: its median in the first tenth of the second half, and what it grew by then.

    `growth` is the slope of the second half (Theil and Sen's: the median over all pairs, which a
    few outliers do not move) times its length.
    """

    what: str
    unit: str
    level: float
    growth: float
    allowed: float

    @property
    def is_flat(self) -> bool:
        return self.growth <= self.allowed


@dataclass(frozen=True, slots=True)
class Limit:
    """The allowed growth of a figure in the second half; `more`: the work done meanwhile."""

    what: str
    unit: str
    of: Callable[[Sample], int]
    allowed: Callable[["More"], float]


@dataclass(frozen=True, slots=True)
class More:
    minutes: float
    requests: int
    changes: int


def _memory(more: More) -> float:
    """Within minutes of the start caches and the allocator's own pools are still being filled."""
    return (12 if more.minutes >= 10 else 40) * MIB


def _tasks_of_requests(more: More) -> float:
    """Open ones have some: in minutes on a busy machine more may wait at the end than before."""
    return 8 if more.minutes >= 10 else 40


LIMITS: Sequence[Limit] = (
    Limit("server memory", "MiB", lambda s: s.server_bytes, _memory),
    Limit("engine memory", "MiB", lambda s: s.engine_bytes, _memory),
    # what adapters are carried in, and what is in host memory: bounded by its places, of any rank
    Limit("memory that both share", "MiB", lambda s: s.shared_bytes, lambda _: 64 * MIB),
    Limit("open files", "", lambda s: s.files, lambda _: 8),
    Limit("threads", "", lambda s: s.threads, lambda _: 4),
    Limit("asyncio tasks", "", lambda s: s.tasks, _tasks_of_requests),
    Limit("series of /metrics", "", lambda s: s.series, lambda _: 50),
    Limit("database", "MiB", lambda s: s.database_bytes, lambda m: 2 * KIB * m.changes + MIB),
    Limit("its write-ahead log", "MiB", lambda s: s.database_log_bytes, lambda _: 2 * MIB),
    Limit(
        "store, without what is registered",
        "MiB",
        lambda s: s.store_bytes - s.live_bytes,
        lambda _: 4 * MIB,
    ),
    Limit(
        "server's log",
        "MiB",
        lambda s: s.log_bytes,
        lambda m: 512 * m.changes + 16 * KIB * m.minutes,
    ),
)


def flatness(samples: Sequence[Sample]) -> list[Flatness]:
    """Of the second half: in the first, what is bounded is still being filled."""
    half = samples[len(samples) // 2 :]
    first, last = half[0], half[-1]
    more = More(
        (last.seconds - first.seconds) / 60,
        last.requests - first.requests,
        last.changes - first.changes,
    )
    return [
        Flatness(
            limit.what,
            limit.unit,
            statistics.median(map(limit.of, half[: len(half) // 10 + 1])),
            _slope(half, limit.of) * (last.seconds - first.seconds),
            limit.allowed(more),
        )
        for limit in LIMITS
    ]


def _slope(samples: Sequence[Sample], of: Callable[[Sample], int]) -> float:
    """Per second."""
    return statistics.median(
        (of(later) - of(earlier)) / (later.seconds - earlier.seconds)
        for earlier, later in combinations(samples, 2)
    )
