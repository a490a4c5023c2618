"""History reader: recorded spans by time, those that are not saved yet among them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from engine.errors import EngineUnavailable, HistoryOff, TimeOutOfRange
from engine.history.counts import Counts, add_up
from engine.history.replay import More, PastState, PastWait, readable_spans, to_time
from engine.history.span import UnreadableRow, unpack_counts
from engine.history.timeline import Bucket, Unknown, fill_buckets, find_gaps
from engine.telemetry.decision_log import EventFilter, LoggedEvent
from registry.cache_history import MICROSECONDS, CacheHistoryStore, HistoryRow, split_name
from registry.errors import UnknownServer

LONGEST_WAIT = 150 * MICROSECONDS  # of a request that got a slot: until then it is looked for
_Found = TypeVar("_Found")
_AHEAD = 5 * MICROSECONDS  # a client whose clock is ahead
_SPANS = 20  # unpacked together
_MOST_SPANS = 200  # for one page


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


class Recording(Protocol):
    """What is being recorded: by this server's recorder, or by those of its replicas."""

    async def servers(self) -> Sequence[str]:
        """Under which names."""

    async def unsaved_rows(self, server: str) -> Sequence[HistoryRow]:
        """What the database may lack; nothing of a server that isn't recorded here."""


class HistoryReader:
    """Reads any server's history. Raises DatabaseUnavailable.

    `recording` None: this server records nothing.
    """

    def __init__(self, store: CacheHistoryStore, recording: Recording | None) -> None:
        self._store = store
        self._recording = recording
        self._unpacking = asyncio.Lock()

    @property
    def keep_seconds(self) -> float:
        return self._store.keep_seconds

    async def servers(self) -> list[str]:
        """Names of those with a history."""
        return sorted({*await self._store.servers(), *await self._recording_servers()})

    async def choose(self, server: str | None) -> str:
        """This server, or a replica of it, if none is named.

        Raises HistoryOff, UnknownServer; EngineUnavailable if no replica has recorded yet.
        """
        own, saved = self._store.server, await self._store.servers()
        if server in saved:
            return server  # without asking all replicas
        recorded = await self._recording_servers()
        known = sorted({*saved, *recorded})
        if server in known:
            return server
        if server not in (None, own):
            raise UnknownServer(server)
        ours = recorded or [each for each in known if split_name(each)[0] == own]
        if ours:
            return min(ours)
        if self._recording is None:
            raise HistoryOff
        raise EngineUnavailable("no replica has answered yet: there is no history of one")

    async def replicas(self, server: str, begin: int, end: int) -> list[str]:
        """Of the fleet of which `server` is one: those that ran then. Empty: it is none."""
        fleet, replica = split_name(server)
        if replica is None:
            return []
        return sorted({server, *await self._store.replicas(fleet, begin, end)})

    async def _recording_servers(self) -> Sequence[str]:
        return () if self._recording is None else await self._recording.servers()

    async def oldest(self, server: str) -> int | None:
        """When what is recorded of it begins."""
        bounds = await self._store.bounds(server)
        begins = [row.began_at for row in await self._unsaved_rows(server)]
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
        rows = {row.began_at: row for row in (*saved, *await self._unsaved_rows(server))}
        found = await self._unpack(_moment, [rows[began] for began in sorted(rows)], at)
        return found or PastMoment(None, await self._gap_around(server, at))

    async def _gap_around(self, server: str, at: int) -> Unknown:
        unsaved = [row.began_at for row in await self._unsaved_rows(server) if row.began_at > at]
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
        rows = {row.began_at: row for row in (*saved, *await self._unsaved_rows(server))}
        ordered = [rows[began] for began in sorted(rows)]
        within = [row for row in ordered if row.began_at < end and row.ended_at >= begin]
        totals = {row.began_at: row.totals for row in within}
        counted = totals if sees is None else await self._count(server, within, sees)
        known = [row for row in within if row.began_at in counted]
        counts = [counted[row.began_at] for row in known]
        return fill_buckets(known, counts, begin, end, bucket), find_gaps(known, begin, end)

    async def _count(
        self, server: str, rows: Sequence[HistoryRow], sees: Callable[[str], bool]
    ) -> dict[int, Counts]:
        """A few rows at a time: the contents of a day are large."""
        found: dict[int, Counts] = {}
        for n in range(0, len(rows), _SPANS):
            part = rows[n : n + _SPANS]
            saved = await self._store.within(server, part[0].began_at, part[-1].began_at + 1)
            unsaved = [row for row in part if row.content]
            found |= await self._unpack(_count, [*saved, *unsaved], sees)
        return found

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
        for row in await self._unsaved_rows(server):
            if row.began_at < end and row.ended_at > begin:
                rows[row.began_at] = row
        return [rows[began] for began in sorted(rows)][:_SPANS]

    async def _unpack(self, function: Callable[..., _Found], *given: object) -> _Found:
        """For one caller at a time: each would take as much of the interpreter as all requests."""
        async with self._unpacking:
            return await asyncio.to_thread(function, *given)

    async def _unsaved_rows(self, server: str) -> Sequence[HistoryRow]:
        return () if self._recording is None else await self._recording.unsaved_rows(server)


def _moment(rows: Sequence[HistoryRow], at: int) -> PastMoment | None:
    within = [row for row in rows if row.ended_at >= at]
    spans = list(readable_spans(within))
    holding = [span for span in spans if span.began <= at]
    if not holding:
        unread = [Unknown(row.began_at, row.ended_at) for row in within if row.began_at <= at]
        return PastMoment(None, unread[-1]) if unread else None
    waits = [wait for span in spans for wait in span.waits_at(at)]
    return PastMoment(holding[-1].state_at(at), waits=waits)


def _count(rows: Sequence[HistoryRow], sees: Callable[[str], bool]) -> dict[int, Counts]:
    """By when each row begins; without those that can't be read."""
    found: dict[int, Counts] = {}
    for row in rows:
        with suppress(UnreadableRow):
            counted = unpack_counts(row)
            found[row.began_at] = add_up(counts for adapter, counts in counted if sees(adapter))
    return found


def _add_events(
    page: DecisionPage,
    rows: Sequence[HistoryRow],
    begin: int,
    end: int,
    accepts: EventFilter | None,
) -> None:
    for span in readable_spans(rows):
        page.events += [
            logged
            for logged in span.events()
            if begin <= logged.id < end and (accepts is None or accepts(logged))
        ]
        page.more += [each for each in span.more() if begin <= each.at < end]
