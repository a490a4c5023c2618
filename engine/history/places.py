"""Places: where each adapter is, followed by the cache's events alone."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from engine.cache.snapshot import CacheSnapshot
from engine.events import (
    CacheEvent,
    Drifted,
    EngineLost,
    Evicted,
    LoadFailed,
    LoadStarted,
    MovedIn,
    Pinned,
    Unpinned,
)
from engine.types import AdapterVersion, EvictionReason, Tier, Transition, VersionId


@dataclass(frozen=True, slots=True)
class Place:
    """Where a version is, and since when, in microseconds since 1970; None: it isn't there.

    An eviction is reported when it is decided, an entry when the engine has answered: of a version
    that is evicted before, `host_owed` and `slot_owed` entries are still to be reported.
    """

    version: AdapterVersion
    host_since: int | None = None
    slot_since: int | None = None
    slot: int | None = None
    pinned: Tier | None = None
    loading_since: int | None = None
    host_owed: int = 0
    slot_owed: int = 0

    @property
    def is_empty(self) -> bool:
        since = (self.host_since, self.slot_since, self.loading_since, self.pinned)
        return not any(each is not None for each in since) and not self.host_owed + self.slot_owed


class Places(Mapping[VersionId, Place]):
    """Of all versions that are in a tier, pinned or being loaded."""

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._places = {place.version.id: place for place in places}

    def __getitem__(self, version: VersionId) -> Place:
        return self._places[version]

    def __iter__(self) -> Iterator[VersionId]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def put(self, place: Place) -> None:
        if place.is_empty:
            self._places.pop(place.version.id, None)
        else:
            self._places[place.version.id] = place

    def apply(self, event: CacheEvent, at: int) -> Collection[AdapterVersion]:
        """Follow the event; the versions whose places it may have changed."""
        match event:
            case EngineLost():
                touched = [place.version for place in self._places.values()]
                for version in touched:
                    self.put(Place(version, pinned=self[version.id].pinned))
                return touched
            case Drifted(known=known):
                for version in known:
                    self.put(replace(self._of(version), host_owed=0, slot_owed=0))
                return known
            case MovedIn() | Evicted() | LoadStarted() | LoadFailed() | Pinned() | Unpinned():
                self.put(_apply(self._of(event.version), event, at))
                return (event.version,)
            case _:
                return ()

    def _of(self, version: AdapterVersion) -> Place:
        return self._places.get(version.id) or Place(version)


def _apply(  # noqa: PLR0911  # one for each kind
    place: Place,
    event: MovedIn | Evicted | LoadStarted | LoadFailed | Pinned | Unpinned,
    at: int,
) -> Place:
    match event:
        case MovedIn(transition=Transition.DISK_TO_HOST):
            if place.host_owed:
                return replace(place, loading_since=None, host_owed=place.host_owed - 1)
            return replace(place, loading_since=None, host_since=at)
        case MovedIn(slot=slot):
            if place.slot_owed:
                return replace(place, slot_owed=place.slot_owed - 1)
            return replace(place, slot_since=at, slot=slot)
        case Evicted(tier=Tier.GPU, reason=reason):
            owed = _count_owed(place.slot_since, place.slot_owed, reason)
            return replace(place, slot_since=None, slot=None, slot_owed=owed)
        case Evicted(reason=reason):
            owed = _count_owed(place.host_since, place.host_owed, reason)
            return replace(place, host_since=None, host_owed=owed)
        case LoadStarted():
            return replace(place, loading_since=at)
        case LoadFailed():
            return replace(place, loading_since=None, host_owed=0, slot_owed=0)
        case Pinned(tier=tier):
            return replace(place, pinned=tier)
        case Unpinned():
            return replace(place, pinned=None)


def _count_owed(since: int | None, owed: int, reason: EvictionReason) -> int:
    if reason is EvictionReason.DRIFT:  # it was not there, or no entry of it was reported
        return 0
    return owed + 1 if since is None else owed


class Corrections:
    """Finds what events alone don't tell, after drift for instance, by comparison with snapshots.

    A snapshot is ahead of the events by the moves in flight. What differs in the same way twice
    in a row is no move in flight.
    """

    def __init__(self) -> None:
        self._before: dict[VersionId, tuple[Place | None, Place]] = {}

    def find(self, places: Places, snapshot: CacheSnapshot, at: int) -> list[Place]:
        """The places to put."""
        seen = _places_of(snapshot, places, at)
        differing: dict[VersionId, tuple[Place | None, Place]] = {}
        for id_ in {*places, *seen}:
            believed, actual = places.get(id_), seen.get(id_)
            actual = actual or Place((believed or seen[id_]).version)
            if not _agree(believed or Place(actual.version), actual):
                differing[id_] = (believed, actual)
        stuck = [
            actual
            for id_, (believed, actual) in differing.items()
            if (before := self._before.get(id_)) is not None
            and before[0] == believed
            and _agree(before[1], actual)
        ]
        self._before = differing
        return stuck


def _places_of(snapshot: CacheSnapshot, places: Places, at: int) -> dict[VersionId, Place]:
    """`at`: since when it has been there, where the events don't tell."""
    slots = {resident.version.id: resident for resident in snapshot.gpu}
    seen: dict[VersionId, Place] = {}
    for resident in snapshot.host:
        version, in_slot = resident.version, slots.get(resident.version.id)
        before = places.get(version.id)
        seen[version.id] = Place(
            version,
            host_since=(before and before.host_since) or at,
            slot_since=((before and before.slot_since) or at) if in_slot else None,
            slot=in_slot.slot if in_slot else None,
            pinned=resident.pinned,
        )
    for version in snapshot.loading:
        if version.id not in seen:
            before = places.get(version.id)
            since = (before and before.loading_since) or at
            seen[version.id] = Place(version, loading_since=since)
    return seen


def _agree(one: Place, other: Place) -> bool:
    return _where(one) == _where(other)


def _where(place: Place) -> tuple[object, ...]:
    """A pin of what is not in memory is nothing that snapshots show."""
    in_host = place.host_since is not None
    return (
        in_host,
        place.slot_since is not None,
        place.slot,
        place.pinned if in_host else None,
        place.loading_since is not None and not in_host,
        place.host_owed,
        place.slot_owed,
    )
