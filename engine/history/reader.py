"""History reader: recorded spans by time, those that are not saved yet among them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from engine.errors import HistoryOff, TimeOutOfRange
from engine.history.counts import Counts, add_up
from engine.history.recorder import SPAN, HistoryRecorder
from engine.history.replay import More, PastState, PastWait, RecordedSpan, to_time
from engine.history.span import unpack_counts
from engine.telemetry.decision_log import EventFilter, LoggedEvent
from registry.cache_history import MICROSECONDS, CacheHistoryStore, HistoryRow
from registry.errors import UnknownServer

LONGEST_WAIT = 150 * MICROSECONDS  # of a request that got a slot: until then it is looked for
_Found = TypeVar("_Found")
_AHEAD = 5 * MICROSECONDS  # a client whose clock is ahead
_GAP = 2 * MICROSECONDS
_SPANS = 20  # unpacked together
_MOST_SPANS = 200  # for one page


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


@dataclass(frozen=True, slots=True)
class PastMoment:
    """`state` None: then `unknown` says of which time nothing is recorded."""

    state: PastState | None
    unknown: Unknown | None = None
    waits: Sequence[PastWait] = ()


@dataclass(slots=True)
class DecisionPage:
    """`next`: where the next page begins, None at the end."""

    events: list[LoggedEvent] = field(default_factory=list)
    more: list[More] = field(default_factory=list)
    next: int | None = None


class HistoryReader:
    """Reads any server's history. Raises DatabaseUnavailable.

    `recorder` None: this server records nothing.
    """

    def __init__(self, store: CacheHistoryStore, recorder: HistoryRecorder | None) -> None:
        self._store = store
        self._recorder = recorder
        self._unpacking = asyncio.Lock()

    @property
    def keep_seconds(self) -> float:
        return self._store.keep_seconds

    async def servers(self) -> list[str]:
        """Names of those with a history."""
        own = [] if self._recorder is None else [self._store.server]
        return sorted({*await self._store.servers(), *own})

    async def choose(self, server: str | None) -> str:
        """This server, if none is named. Raises HistoryOff, UnknownServer."""
        chosen = server or self._store.server
        if chosen in await self.servers():
            return chosen
        raise HistoryOff if server is None else UnknownServer(server)

    async def oldest(self, server: str) -> int | None:
        """When what is recorded of it begins."""
        bounds = await self._store.bounds(server)
        begins = [row.began_at for row in await self._unsaved(server)]
        return min(begins + ([] if bounds is None else [bounds.oldest]), default=None)

    def check_time(self, at: int, now: int) -> None:
        """Raises TimeOutOfRange."""
        if at > now + _AHEAD:
            raise TimeOutOfRange(f"{to_time(now).isoformat()} is now: there is no later history")
        hours = self.keep_seconds / 3600 or 24 * 366  # the most, of another server
        if at < now - (hours * 3600 + 60) * MICROSECONDS:
            raise TimeOutOfRange(f"the history of the cache goes back {hours:g} hours")

    async def moment(self, server: str, at: int) -> PastMoment:
        saved = await self._store.within(server, at, at + LONGEST_WAIT)
        rows = {row.began_at: row for row in (*saved, *await self._unsaved(server))}
        found = await self._unpack(_moment, [rows[began] for began in sorted(rows)], at)
        return found or PastMoment(None, await self._gap_around(server, at))

    async def _gap_around(self, server: str, at: int) -> Unknown:
        unsaved = [row.began_at for row in await self._unsaved(server) if row.began_at > at]
        before = await self._store.last_before(server, at)
        after = await self._store.first_after(server, at)
        until = min([*unsaved, *([] if after is None else [after])], default=None)
        return Unknown(None if before is None else before.ended_at, until)

    async def timeline(
        self,
        server: str,
        begin: int,
        end: int,
        bucket: int,
        sees: Callable[[str], bool] | None = None,
    ) -> tuple[list[Bucket], list[Unknown]]:
        """Counts in buckets of that many microseconds. `sees`: only of these adapters."""
        saved = await self._store.within(server, begin, end, content=False)
        rows = {row.began_at: row for row in (*saved, *await self._unsaved(server))}
        ordered = [rows[began] for began in sorted(rows)]
        within = [row for row in ordered if row.began_at < end and row.ended_at >= begin]
        totals = [row.totals for row in within]
        counted = totals if sees is None else await self._count(server, within, sees)
        return _buckets(within, counted, begin, end, bucket), _gaps(within, begin, end)

    async def _count(
        self, server: str, rows: Sequence[HistoryRow], sees: Callable[[str], bool]
    ) -> list[Mapping[str, float]]:
        """A few rows at a time: the contents of a day are large."""
        found: dict[int, Mapping[str, float]] = {}
        for n in range(0, len(rows), _SPANS):
            part = rows[n : n + _SPANS]
            saved = await self._store.within(server, part[0].began_at, part[-1].began_at + 1)
            unsaved = [row for row in part if row.content]
            found |= await self._unpack(_count, [*saved, *unsaved], sees)
        return [found.get(row.began_at, {}) for row in rows]

    async def decisions(
        self, server: str, begin: int, end: int, limit: int, accepts: EventFilter | None = None
    ) -> DecisionPage:
        """At most `limit`, the oldest first."""
        page, position, scanned = DecisionPage(), begin, 0
        while position < end and scanned < _MOST_SPANS:
            rows = await self._rows_from(server, position, end)
            await self._unpack(_add_events, page, rows, position, end, accepts)
            if len(page.events) > limit:
                page.next = page.events[limit].id
                page.events = page.events[:limit]
                page.more = [each for each in page.more if each.since < page.next]
                return page
            if len(rows) < _SPANS:
                return page
            position, scanned = rows[-1].ended_at, scanned + len(rows)
        page.next = position if position < end else None
        return page

    async def _rows_from(self, server: str, begin: int, end: int) -> list[HistoryRow]:
        saved = await self._store.within(server, begin, end, limit=_SPANS)
        rows = {row.began_at: row for row in saved}
        for row in await self._unsaved(server):
            if row.began_at < end and row.ended_at > begin:
                rows[row.began_at] = row
        return [rows[began] for began in sorted(rows)][:_SPANS]

    async def _unpack(self, function: Callable[..., _Found], *given: object) -> _Found:
        """For one caller at a time: each would take as much of the interpreter as all requests."""
        async with self._unpacking:
            return await asyncio.to_thread(function, *given)

    async def _unsaved(self, server: str) -> list[HistoryRow]:
        if self._recorder is None or server != self._store.server:
            return []
        packed = self._recorder.unsaved()
        return await asyncio.to_thread(lambda: [pack() for pack in packed])


def _moment(rows: Sequence[HistoryRow], at: int) -> PastMoment | None:
    spans = [RecordedSpan(row) for row in rows if row.ended_at >= at]
    holding = [span for span in spans if span.began <= at]
    if not holding:
        return None
    waits = [wait for span in spans for wait in span.waits_at(at)]
    return PastMoment(holding[-1].state_at(at), waits=waits)


def _count(rows: Sequence[HistoryRow], sees: Callable[[str], bool]) -> dict[int, Counts]:
    """By when each row begins."""
    return {
        row.began_at: add_up(counts for adapter, counts in unpack_counts(row) if sees(adapter))
        for row in rows
    }


def _buckets(
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


def _gaps(rows: Sequence[HistoryRow], begin: int, end: int) -> list[Unknown]:
    if not rows:
        return [Unknown(begin, end)]
    edges = [(begin, rows[0].began_at), (rows[-1].ended_at, end)]
    edges += [(one.ended_at, other.began_at) for one, other in pairwise(rows)]
    return [Unknown(since, until) for since, until in sorted(edges) if until - since > _GAP]


def _add_events(
    page: DecisionPage,
    rows: Sequence[HistoryRow],
    begin: int,
    end: int,
    accepts: EventFilter | None,
) -> None:
    for span in map(RecordedSpan, rows):
        page.events += [
            logged
            for logged in span.events()
            if begin <= logged.id < end and (accepts is None or accepts(logged))
        ]
        page.more += [each for each in span.more() if begin <= each.at < end]
