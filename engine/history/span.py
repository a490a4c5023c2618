"""Span of the history: about a minute as one row, from what was in memory at its start."""

import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from engine.cache.snapshot import CacheSnapshot
from engine.events import CacheEvent, Drifted, EngineLost, EngineReady, LookedUp
from engine.history.counts import WAIT_SECONDS, Counts, add_event
from engine.history.places import Place, Places
from engine.history.records import (
    MORE,
    SAMPLE,
    Record,
    encode_event,
    encode_name,
    encode_place,
)
from engine.types import AdapterVersion, CacheOutcome, VersionId
from registry.cache_history import MICROSECONDS, HistoryRow

FORMAT = 1
MAX_RECORDS_PER_SECOND = 20
MAX_COUNTED = 256
"""Adapters with counts of their own in a span."""
_PACKING = 6


class Span:
    """Follows `places` and records until it is closed. A place that changed in a second beyond the
    most records of a second is recorded at the end of that second.

    `sizes`: host bytes of versions, as far as known.
    """

    def __init__(self, began: int, ends: int, places: Places, engine_up: bool) -> None:
        self.began, self.ends = began, ends
        self.is_saved = False
        self.records: list[Record] = []
        self.totals: Counts = {}
        self._names: list[AdapterVersion] = []
        self._index: dict[VersionId, int] = {}
        self._counts: dict[VersionId, Counts] = {}
        self._second, self._in_second = 0, 0
        self._more, self._more_from, self._more_until = 0, 0, 0
        self._touched: set[VersionId] = set()
        self._places = places
        self._engine_up = engine_up
        self._start = [encode_place(place, self._index_of, began) for place in places.values()]
        self._last_sample: Record | None = None

    @property
    def is_empty(self) -> bool:
        """But for a look at what was there."""
        quiet = len(self.records) <= 1 and all(record[1] == SAMPLE for record in self.records)
        return quiet and not self.totals and not self._more

    def add_hit(self, version: AdapterVersion) -> None:
        """It was in its slot, and the request did not wait."""
        self.is_saved = False
        self.totals["hits"] = self.totals.get("hits", 0) + 1
        if (counts := self._counts_of(version)) is not None:
            counts["hits"] = counts.get("hits", 0) + 1

    def add(self, event: CacheEvent, at: int) -> None:
        """Follow it in `places`, and record it."""
        self.is_saved = False
        self._count(event)
        is_engine = isinstance(event, EngineLost | EngineReady)
        if is_engine or at // MICROSECONDS != self._second:
            self.settle()  # places as they were before this event
        if at // MICROSECONDS != self._second:
            self._second, self._in_second = at // MICROSECONDS, 0
        touched = self._places.apply(event, at)
        self._in_second += 1
        if self._in_second <= MAX_RECORDS_PER_SECOND or is_engine:
            self.records.append([at - self.began, *encode_event(event, self._index_of)])
            return
        self._more_from = at if not self._more else self._more_from
        self._more, self._more_until = self._more + 1, at
        self._touched.update(version.id for version in touched)
        for version in touched:
            self._index_of(version)

    def settle(self) -> None:
        """Record what was not recorded singly."""
        if self._more:
            self._add_places(self._more, self._more_from, self._more_until, self._touched)
            self._more, self._touched = 0, set()

    def correct(self, changed: Sequence[Place], at: int) -> None:
        """Places that no event has named."""
        self.settle()
        for place in changed:
            self._places.put(place)
            self._index_of(place.version)
        self._add_places(0, at, at, {place.version.id for place in changed})
        self.is_saved = False

    def _add_places(self, more: int, since: int, at: int, touched: Collection[VersionId]) -> None:
        versions = [self._names[self._index[id_]] for id_ in touched]
        places = [self._places.get(version.id) or Place(version) for version in versions]
        changed = [encode_place(place, self._index_of, at) for place in places]
        self.records.append([at - self.began, MORE, more, at - since, changed])

    def sample(self, snapshot: CacheSnapshot, at: int) -> None:
        """Leases and waiting requests now, unless they are as they were."""
        held = [
            [self._index_of(each.version), each.leases, each.waiting, int(each.leaving)]
            for each in snapshot.host
            if each.leases or each.waiting or each.leaving
        ]
        sample = [snapshot.waiting, int(snapshot.engine_up), held]
        if sample != self._last_sample:
            self.settle()
            self._last_sample = sample
            self.records.append([at - self.began, SAMPLE, *sample])
            self.is_saved = False

    def document(self, sizes: Mapping[VersionId, int]) -> dict[str, Any]:
        """What `pack` needs, which the span doesn't change any more."""
        self.settle()
        return {
            "format": FORMAT,
            "engine_up": self._engine_up,
            "names": [encode_name(each, sizes.get(each.id)) for each in self._names],
            "start": self._start,
            "records": self.records.copy(),
            "counts": [[self._index[id_], counts.copy()] for id_, counts in self._counts.items()],
        }

    def _count(self, event: CacheEvent) -> None:
        add_event(self.totals, event)
        if isinstance(event, EngineLost | EngineReady | Drifted):
            return
        if (counts := self._counts_of(event.version)) is not None:
            add_event(counts, event)

    def _counts_of(self, version: AdapterVersion) -> Counts | None:
        """None: too many have counts already."""
        counts = self._counts.get(version.id)
        if counts is None and len(self._counts) < MAX_COUNTED:
            self._index_of(version)
            counts = self._counts[version.id] = {}
        return counts

    def _index_of(self, version: AdapterVersion) -> int:
        index = self._index.get(version.id)
        if index is None:
            index = self._index[version.id] = len(self._names)
            self._names.append(version)
        return index


def is_plain_hit(event: CacheEvent) -> TypeGuard[LookedUp]:
    """It is counted only."""
    return (
        isinstance(event, LookedUp)
        and event.outcome is CacheOutcome.GPU_HIT
        and event.wait_seconds < WAIT_SECONDS
    )


def pack(document: Mapping[str, Any], began: int, ended: int, totals: Counts) -> HistoryRow:
    """Takes milliseconds: not for the event loop."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    whole = text.encode(errors="replace")  # an error's text may have bytes that are no UTF-8
    return HistoryRow(began, ended, totals, zlib.compress(whole, _PACKING))


class UnreadableRow(Exception):
    """A row that a later Adaptry has written, on the same database, or a damaged one."""


class _Format(msgspec.Struct):
    format: int


def unpack(row: HistoryRow) -> dict[str, Any]:
    """Raises UnreadableRow."""
    document: dict[str, Any] = json.loads(_content(row))
    return document


def _content(row: HistoryRow) -> bytes:
    try:
        content = zlib.decompress(row.content)
        found = msgspec.json.decode(content, type=_Format).format
    except (zlib.error, msgspec.DecodeError) as error:
        raise UnreadableRow(str(error)) from error
    if found != FORMAT:
        raise UnreadableRow(f"format {found}")
    return content


class _Counted(msgspec.Struct):
    """The rest of the document is skipped: it takes ten times as long."""

    names: list[list[Any]]
    counts: list[tuple[int, dict[str, float]]]


def unpack_counts(row: HistoryRow) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Of each adapter, by its name. Raises UnreadableRow."""
    counted = msgspec.json.decode(_content(row), type=_Counted)
    return ((counted.names[index][1], counts) for index, counts in counted.counts)
