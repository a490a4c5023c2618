"""Replay of a recorded span: the state at a time in it, and its decisions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from engine.events import CacheEvent, EngineLost, EngineReady, LookedUp
from engine.history.places import Places
from engine.history.records import MORE, SAMPLE, decode_event, decode_name, decode_place
from engine.history.span import UnreadableRow, unpack
from engine.telemetry.decision_log import LoggedEvent
from engine.types import AdapterVersion, VersionId
from registry.cache_history import MICROSECONDS, HistoryRow

_EPOCH = datetime.fromtimestamp(0, UTC)


def to_microseconds(at: datetime) -> int:
    """Since 1970. `at` has a zone."""
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * MICROSECONDS + since.microseconds


def to_time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // MICROSECONDS, UTC).replace(
        microsecond=microseconds % MICROSECONDS
    )


@dataclass(frozen=True, slots=True)
class Held:
    """Of an adapter in memory: its leases and waiting requests at the last sample."""

    leases: int = 0
    waiting: int = 0
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class More:
    """That many decisions were not recorded singly, from `since` until `at`."""

    since: int
    at: int
    count: int


@dataclass(frozen=True, slots=True)
class PastWait:
    """A request that waited for its adapter's slot from `since` until `until`."""

    version: AdapterVersion
    since: int
    until: int
    event: LookedUp


@dataclass(slots=True)
class PastState:
    """A cache at `at`. `sampled_at`: when leases and waiting requests were looked at, if at all.

    `is_exact` False: in the middle of what was not recorded singly.
    """

    at: int
    slots: int
    host_capacity: int
    host_bytes_limit: int | None
    engine_up: bool
    places: Places
    host_bytes: Mapping[VersionId, int]
    sampled_at: int | None = None
    waiting: int = 0
    held: dict[VersionId, Held] = field(default_factory=dict)
    is_exact: bool = True


def readable_spans(rows: Iterable[HistoryRow]) -> Iterator["RecordedSpan"]:
    """Without those that a later Adaptry has written: what they hold is not known."""
    for row in rows:
        with suppress(UnreadableRow):
            yield RecordedSpan(row)


class RecordedSpan:
    """One row, unpacked: takes milliseconds."""

    def __init__(self, row: HistoryRow) -> None:
        """Raises UnreadableRow."""
        self.began, self.ended = row.began_at, row.ended_at
        self._document = unpack(row)
        names = self._document["names"]
        self._names = [decode_name(each) for each in names]
        self._host_bytes = {VersionId(each[0]): each[5] for each in names if each[5] is not None}

    def state_at(self, at: int) -> PastState:
        document = self._document
        begun = [decode_place(each, self._names, self.began) for each in document["start"]]
        state = PastState(
            at,
            document["slots"],
            document["host_capacity"],
            document["host_bytes_limit"],
            document["engine_up"],
            Places(begun),
            self._host_bytes,
        )
        for after, *record in document["records"]:
            if self.began + after > at:
                since = self.began + after - record[2] if record[0] == MORE else at + 1
                state.is_exact = state.is_exact and since > at
            else:
                self._follow(state, self.began + after, record)
        return state

    def _follow(self, state: PastState, at: int, record: Sequence[Any]) -> None:
        match record:
            case [str(kind), int(waiting), int(engine_up), list(held)] if kind == SAMPLE:
                state.sampled_at, state.waiting = at, waiting
                state.engine_up = bool(engine_up)
                state.held = {
                    self._names[index].id: Held(leases, waits, bool(leaving))
                    for index, leases, waits, leaving in held
                }
            case [str(kind), int(), int(), list(places)] if kind == MORE:
                for place in places:
                    state.places.put(decode_place(place, self._names, at))
            case _:
                event = decode_event(record, self._names)
                state.places.apply(event, at)
                if isinstance(event, EngineLost | EngineReady):
                    state.engine_up = isinstance(event, EngineReady)
                    state.held = {}

    def events(self) -> Iterator[LoggedEvent]:
        """Each with its time as its id, oldest first."""
        for after, *record in self._document["records"]:
            if record[0] not in (SAMPLE, MORE):
                event: CacheEvent = decode_event(record, self._names)
                at = self.began + after
                yield LoggedEvent(at, at / MICROSECONDS, event)

    def more(self) -> Iterator[More]:
        for after, kind, *fields in self._document["records"]:
            if kind == MORE and fields[0]:
                at = self.began + after
                yield More(at - fields[1], at, fields[0])

    def waits_at(self, at: int) -> Iterator[PastWait]:
        """Of requests that waited then, and got a slot later."""
        for logged in self.events():
            event = logged.event
            if isinstance(event, LookedUp) and logged.id > at:
                since = logged.id - int(event.wait_seconds * MICROSECONDS)
                if since <= at:
                    yield PastWait(event.version, since, logged.id, event)
