"""Where every adapter is, in the order of last use, and how many requests hold it. Pure."""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable
from enum import Enum, auto

from engine.policy.decisions import Residency
from engine.types import VersionId


class Place(Enum):
    """Where an adapter is on its way in. One that has no place is on disk only."""

    LOADING = auto()
    STAGED = auto()  # loaded beside the tiers, waits for a place in the host tier
    COMMITTING = auto()
    HOST = auto()
    ACTIVATING = auto()
    SLOT = auto()


_OUTSIDE = frozenset({Place.LOADING, Place.STAGED})
_IN_SLOT = frozenset({Place.ACTIVATING, Place.SLOT})
_SETTLED = frozenset({Place.HOST, Place.SLOT})


class Tiers:
    """Both tiers with their leases. Knows who is where, not who should be.

    `host_bytes` None: only the places of the host tier are counted.
    """

    def __init__(self, *, slots: int, host_capacity: int, host_bytes: int | None = None) -> None:
        self.slots = slots
        self.host_capacity = host_capacity
        self.host_bytes = host_bytes
        self._sizes: dict[VersionId, int] = {}
        self._place: dict[VersionId, Place] = {}
        self._recency: OrderedDict[VersionId, None] = OrderedDict()  # host tier, LRU first
        self._leases: Counter[VersionId] = Counter()
        self._grants: Counter[VersionId] = Counter()  # the number of the last one of each
        self._granted = 0

    def place_of(self, version: VersionId) -> Place | None:
        return self._place.get(version)

    def put(self, version: VersionId, place: Place) -> None:
        """It is there now. Whoever enters the host tier was used last."""
        self._place[version] = place
        if place not in _OUTSIDE and version not in self._recency:
            self._recency[version] = None

    def remove(self, version: VersionId) -> None:
        self._place.pop(version, None)
        self._recency.pop(version, None)
        self._grants.pop(version, None)

    def learn_size(self, version: VersionId, size_bytes: int) -> None:
        """What it takes, or will take, in host memory. Unknown ones count as nothing."""
        self._sizes[version] = size_bytes

    def size_of(self, version: VersionId) -> int:
        return self._sizes.get(version, 0)

    def largest_size(self, besides: Collection[VersionId]) -> int:
        """Of all that are known, in memory or not."""
        return max((size for v, size in self._sizes.items() if v not in besides), default=0)

    def clear(self) -> None:
        """Nothing is anywhere, and nobody holds anything. Sizes stay known."""
        self._leases.clear()
        self._grants.clear()
        self._place.clear()
        self._recency.clear()

    def lease(self, version: VersionId) -> None:
        self._leases[version] += 1
        self._granted += 1
        self._grants[version] = self._granted
        self._recency.move_to_end(version)

    def give_back(self, version: VersionId) -> None:
        self._leases[version] -= 1
        if not self._leases[version]:
            del self._leases[version]
        self._recency.move_to_end(version)

    def leases(self, version: VersionId) -> int:
        return self._leases[version]

    def last_grant(self, version: VersionId) -> int:
        """Grants are numbered; the lower, the longer ago. 0 if there was none."""
        return self._grants[version]

    def any_leases(self) -> bool:
        return bool(self._leases)

    # ---- views ---------------------------------------------------------------------------

    def in_lru_order(self, place: Place) -> list[VersionId]:
        return [v for v in self._recency if self._place[v] is place]

    def staged(self) -> list[VersionId]:
        """Those that wait for a place in the host tier, in the order in which loads began."""
        return [v for v, place in self._place.items() if place is Place.STAGED]

    def outside(self) -> int:
        """How many are being loaded or staged, beside the tiers."""
        return sum(place in _OUTSIDE for place in self._place.values())

    def fit_into_host(
        self, entering: Iterable[VersionId], *, without: Collection[VersionId] = ()
    ) -> bool:
        """Whether these would have their places and bytes if `without` were gone."""
        then = [v for v in self._recency if v not in without] + list(entering)
        if len(then) > self.host_capacity:
            return False
        return self.host_bytes is None or sum(map(self.size_of, then)) <= self.host_bytes

    def slots_are_full(self) -> bool:
        return len(self.residency().gpu) >= self.slots

    def entered_host(self, version: VersionId) -> bool:
        """It has a place in the host tier, if only since the last decision."""
        return version in self._recency

    def is_settled(self, version: VersionId) -> bool:
        return self._place.get(version) in _SETTLED

    def in_transit(self) -> tuple[VersionId, ...]:
        return tuple(v for v in self._place if not self.is_settled(v))

    def residency(self) -> Residency:
        gpu = tuple(v for v in self._recency if self._place[v] in _IN_SLOT)
        return Residency(gpu=gpu, host=tuple(self._recency))

    def check(self) -> None:
        """Raise AssertionError if a tier is fuller than it can be or a lease has no slot."""
        gpu, host = self.residency().gpu, self.residency().host
        assert len(gpu) <= self.slots, f"too many in slots: {gpu}"
        assert self.fit_into_host(()), f"too many or too large in host memory: {host}"
        inside = {v for v, place in self._place.items() if place not in _OUTSIDE}
        assert inside == set(host), "recency and host tier differ"
        assert all(n > 0 for n in self._leases.values()), "lease count below one"
        assert set(self._leases) <= set(gpu), f"leased but in no slot: {set(self._leases)}"
