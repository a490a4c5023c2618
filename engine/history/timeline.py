"""Timeline of the history: counts in buckets, and the times of which nothing is recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from engine.history.counts import Counts, add_up
from engine.history.recorder import SPAN
from registry.cache_history import MICROSECONDS, HistoryRow

_GAP = 2 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was counted in a part of the range. `recorded_seconds`: how much of it is recorded."""

    at: int
    recorded_seconds: float
    counts: Counts


@dataclass(frozen=True, slots=True)
class Unknown:
    """A time of which nothing is recorded: the server did not run, or nothing was saved.

    None: it is not known since when or until when.
    """

    since: int | None
    until: int | None


def fill_buckets(
    rows: Sequence[HistoryRow],
    counted: Sequence[Mapping[str, float]],
    begin: int,
    end: int,
    bucket: int,
) -> list[Bucket]:
    """A row counts in its last minute: before that, nothing happens in a longer one."""
    seconds = [0.0] * (-(-(end - begin) // bucket))
    parts: list[list[Mapping[str, float]]] = [[] for _ in seconds]
    for row, counts in zip(rows, counted, strict=True):
        first = max(row.began_at - begin, 0) // bucket
        counted_at = min(max(row.began_at, row.ended_at - SPAN), end - 1)
        parts[max(counted_at - begin, 0) // bucket].append(counts)
        last = min(row.ended_at - begin, end - begin - 1) // bucket
        for n in range(first, last + 1):
            since = max(row.began_at, begin + n * bucket)
            until = min(row.ended_at, begin + (n + 1) * bucket, end)
            seconds[n] += max(until - since, 0) / MICROSECONDS
    return [
        Bucket(begin + n * bucket, min(recorded, bucket / MICROSECONDS), add_up(parts[n]))
        for n, recorded in enumerate(seconds)
    ]


def find_gaps(rows: Sequence[HistoryRow], begin: int, end: int) -> list[Unknown]:
    if not rows:
        return [Unknown(begin, end)]
    edges = [(begin, rows[0].began_at), (rows[-1].ended_at, end)]
    edges += [(one.ended_at, other.began_at) for one, other in pairwise(rows)]
    return [Unknown(since, until) for since, until in sorted(edges) if until - since > _GAP]
