"""Decision log: the last events of the cache, overall and for each version. Bounded in size."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeGuard

import msgspec
from msgspec.structs import replace

from engine.events import CacheEvent, Drained, Drifted, EngineLost, EngineReady, LookedUp
from engine.types import AdapterVersion, CacheOutcome, VersionId

_ENGINE_EVENTS = 8


_SLOT_HIT = CacheOutcome.GPU_HIT


class LoggedEvent(msgspec.Struct, frozen=True):
    """`id` increases, also across restarts. `count`: how many equal events in a row this one ends.

    `replica`: its name, if there are several. `seconds`: since 1970.
    """

    id: int
    seconds: float
    event: CacheEvent
    count: int = 1
    replica: str | None = None

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    @property
    def version(self) -> AdapterVersion | None:
        """The version that it concerns; None for all of them."""
        match self.event:
            case EngineLost() | EngineReady():
                return None
            case Drifted(known=known):
                return known[0] if len(known) == 1 else None
            case event:
                return event.version


EventFilter = Callable[[LoggedEvent], bool]


class DecisionLog:
    """An observer that stores the last events overall, and the last ones of each version.

    Hits in a slot are the most frequent events and explain the least, so a version's own list
    combines consecutive ones.
    """

    def __init__(
        self,
        *,
        capacity: int = 4096,
        per_version: int = 48,
        max_versions: int = 2048,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._per_version = per_version
        self._max_versions = max_versions
        self._all: deque[LoggedEvent] = deque(maxlen=capacity)
        self._by_version: OrderedDict[VersionId, deque[LoggedEvent]] = OrderedDict()
        self._engine_events: deque[LoggedEvent] = deque(maxlen=_ENGINE_EVENTS)
        self._appended = asyncio.Event()
        # A client that reconnects after a restart has a smaller one: microseconds outrun events.
        self.newest_id = int(clock() * 1e6)

    def on_event(self, event: CacheEvent) -> None:
        self.newest_id += 1
        logged = LoggedEvent(self.newest_id, self._clock(), event)
        if _is_slot_hit(event):
            self._append_slot_hit(logged, event.version.id)
        else:
            self._append(logged)

    def append_from_replica(self, logged: LoggedEvent, replica: str) -> None:
        """Append an event of another log, with a new id."""
        self.newest_id += 1
        self._append(replace(logged, id=self.newest_id, replica=replica))

    def _append_slot_hit(self, logged: LoggedEvent, version: VersionId) -> None:
        """As `_append` does it, in fewer steps: of nearly every request."""
        self._all.append(logged)
        own = self._by_version.get(version)
        if own and _is_slot_hit(own[-1].event):
            self._by_version.move_to_end(version)
            count = own[-1].count + 1
            own[-1] = LoggedEvent(logged.id, logged.seconds, logged.event, count)
        else:
            self._append_to_version(version, logged)
        self._appended.set()

    def _append(self, logged: LoggedEvent) -> None:
        self._all.append(logged)
        affected = _affected_versions(logged.event)
        for version in affected:
            self._append_to_version(version, logged)
        if not affected:
            self._engine_events.append(logged)
        self._appended.set()

    def _append_to_version(self, version: VersionId, logged: LoggedEvent) -> None:
        own = self._by_version.setdefault(version, deque(maxlen=self._per_version))
        self._by_version.move_to_end(version)
        if own and _is_slot_hit(logged.event) and _is_slot_hit(own[-1].event):
            before = own.pop()  # `replace` takes three times as long
            logged = LoggedEvent(
                logged.id, logged.seconds, logged.event, before.count + 1, logged.replica
            )
        own.append(logged)
        if len(self._by_version) > self._max_versions:
            self._by_version.popitem(last=False)

    def about(self, version: VersionId) -> list[LoggedEvent]:
        """The last events of this version and of the engine, newest first."""
        own = [*self._by_version.get(version, ()), *self._engine_events]
        return sorted(own, key=lambda logged: logged.id, reverse=True)

    def after(self, id_: int, limit: int, accepts: EventFilter | None = None) -> list[LoggedEvent]:
        """At most `limit` events after this id, oldest first."""
        found: list[LoggedEvent] = []
        for logged in reversed(self._all):
            if logged.id <= id_:
                break
            if accepts is None or accepts(logged):
                found.append(logged)
        return found[::-1][:limit]

    def latest(self, limit: int, accepts: EventFilter | None = None) -> list[LoggedEvent]:
        """The last events, oldest first."""
        found: list[LoggedEvent] = []
        for logged in reversed(self._all):
            if len(found) == limit:
                break
            if accepts is None or accepts(logged):
                found.append(logged)
        return found[::-1]

    @property
    def oldest_id(self) -> int | None:
        """Of the events in the log."""
        return self._all[0].id if self._all else None

    async def wait_for_newer(self, id_: int) -> None:
        """Until there is an event after this id."""
        while self.newest_id <= id_:
            self._appended.clear()
            await self._appended.wait()


def concerns(logged: LoggedEvent, adapter: str) -> bool:
    """Whether it concerns this adapter, alone or among all."""
    version = logged.version
    return version is None or version.adapter == adapter


def _is_slot_hit(event: CacheEvent) -> TypeGuard[LookedUp]:
    return isinstance(event, LookedUp) and event.outcome is _SLOT_HIT


def _affected_versions(event: CacheEvent) -> Sequence[VersionId]:
    match event:
        case LookedUp(version=version):  # nearly all
            return (version.id,)
        case EngineLost() | EngineReady():
            return ()
        case Drifted(ids=ids):
            return ids
        case Drained(version=version, room_for=room_for):
            return (version.id,) if room_for is None else (version.id, room_for.id)
        case _:
            return (event.version.id,)
