"""Shadows: what other policies and more slots would have hit, on the live cache's own lookups."""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.events import CacheEvent, EngineLost, LookedUp, MovedIn
from engine.policy.eviction_orders.base import EvictionOrder
from engine.policy.eviction_orders.choice import create_orders
from engine.policy.optimum import least_misses
from engine.types import CacheOutcome, EvictionPolicy, Tier, Transition, VersionId

WINDOW = 1000  # lookups
STACK = 512  # adapters, by their last use
_MISSES_REMEMBERED = 1024  # versions

LRU, OPTIMUM, CANDIDATE = "lru", "optimum", "candidate"


class _Shadow:
    """One policy over so many places of one tier."""

    def __init__(self, places: int, order: EvictionOrder) -> None:
        self._places = places
        self._order = order
        self._resident: set[VersionId] = set()

    def look_up(self, version: VersionId) -> bool:
        """Whether it would have hit; the adapter is resident then."""
        hit = version in self._resident
        if not hit:
            if len(self._resident) >= self._places:
                victim = next(self._order.in_order())
                self._order.remove(victim)
                self._resident.remove(victim)
            self._order.insert(version)
            self._resident.add(version)
        self._order.touch(version, granted=True)
        self._order.touch(version, granted=False)
        return hit

    def learn_cost(self, version: VersionId, size_bytes: int, load_seconds: float) -> None:
        self._order.learn_cost(version, size_bytes, load_seconds)


@dataclass(frozen=True, slots=True)
class _Lookup:
    version: VersionId
    live: bool
    candidate: bool | None
    distance: int | None


@dataclass(frozen=True, slots=True)
class TierRegret:
    """Hit ratios of the last lookups. `places_for_half`: so many places in all would have made hits
    of half of the misses that more places can mend; None if there are none, or too many are needed.
    """

    tier: Tier
    places: int
    live: float
    ratios: Mapping[str, float]
    places_for_half: int | None
    gain: float

    def regret(self, policy: str) -> float:
        """Share of the lookups that it would have hit more; negative: fewer."""
        return self.ratios[policy] - self.live


@dataclass(frozen=True, slots=True)
class LastMiss:
    """Of one adapter: the places with which LRU would have hit, None if it knows none; and whether
    the candidate would have.
    """

    places: int
    needed: int | None
    candidate: bool


class _RecentUse:
    """Adapters by their last use. One list tells what LRU hits with any number of places: a lookup
    hits in all that have more places than adapters were used since its own last use.
    """

    def __init__(self) -> None:
        self._stack: OrderedDict[VersionId, None] = OrderedDict()

    def use(self, version: VersionId) -> int | None:
        """The places with which LRU would have it: None if they are more than we remember."""
        found = None
        if version in self._stack:
            latest = enumerate(reversed(self._stack), start=1)
            found = next(number for number, other in latest if other == version)
        self._stack[version] = None
        self._stack.move_to_end(version)
        if len(self._stack) > STACK:
            self._stack.popitem(last=False)
        return found


class TierShadows:
    """The shadows of one tier. Costs microseconds a lookup, and bounded memory."""

    def __init__(self, tier: Tier, places: int, candidate: EvictionOrder | None) -> None:
        self._tier = tier
        self._places = places
        self._candidate = None if candidate is None else _Shadow(places, candidate)
        self._before: deque[VersionId] = deque(maxlen=WINDOW)
        self._lookups: deque[_Lookup] = deque(maxlen=WINDOW)
        self._misses: OrderedDict[VersionId, LastMiss] = OrderedDict()

    def look_up(self, version: VersionId, distance: int | None, *, hit: bool) -> None:
        """`distance`: of its last use, see `_RecentUse`."""
        candidate = None if self._candidate is None else self._candidate.look_up(version)
        if len(self._lookups) == WINDOW:
            self._before.append(self._lookups[0].version)
        self._lookups.append(_Lookup(version, hit, candidate, distance))
        if not hit:
            self._misses[version] = LastMiss(self._places, distance, bool(candidate))
            self._misses.move_to_end(version)
            if len(self._misses) > _MISSES_REMEMBERED:
                self._misses.popitem(last=False)

    def learn_cost(self, version: VersionId, size_bytes: int, load_seconds: float) -> None:
        """What its load from disk took: some candidates go by that."""
        if self._candidate is not None:
            self._candidate.learn_cost(version, size_bytes, load_seconds)

    def last_miss(self, version: VersionId) -> LastMiss | None:
        return self._misses.get(version)

    def window(self) -> "Window":
        return Window(self._tier, self._places, tuple(self._before), tuple(self._lookups))


@dataclass(frozen=True, slots=True)
class Window:
    """The last lookups of one tier, and the versions before them. For any thread."""

    tier: Tier
    places: int
    before: Sequence[VersionId]
    lookups: Sequence[_Lookup]

    def regret(self) -> TierRegret:
        """The optimum knows the window, and what came before it. There has to be a lookup."""
        lookups, count = self.lookups, len(self.lookups)
        used = [*self.before, *(each.version for each in lookups)]
        least = least_misses(used, self.places, since=len(self.before))
        ratios = {
            LRU: sum(_within(each.distance, self.places) for each in lookups) / count,
            OPTIMUM: 1 - least / count,
        }
        if lookups[-1].candidate is not None:
            ratios[CANDIDATE] = sum(bool(each.candidate) for each in lookups) / count
        needed, gain = self._mend()
        live = sum(each.live for each in lookups) / count
        return TierRegret(self.tier, self.places, live, ratios, needed, gain)

    def _mend(self) -> tuple[int | None, float]:
        missed = [each.distance for each in self.lookups if not each.live]
        mendable = sorted(each for each in missed if each is not None and each > self.places)
        if not mendable:
            return None, 0.0
        needed = mendable[(len(mendable) - 1) // 2]
        return needed, sum(each <= needed for each in mendable) / len(self.lookups)


def _within(distance: int | None, places: int) -> bool:
    return distance is not None and distance <= places


class Shadows:
    """An observer of lookups. `policy`: the live one; `candidate`: the operator's choice."""

    def __init__(
        self,
        *,
        slots: int,
        host_capacity: int,
        policy: EvictionPolicy,
        candidate: EvictionPolicy | None = None,
    ) -> None:
        self.policy = policy
        self.candidate = candidate
        self._sizes = {Tier.GPU: slots, Tier.HOST: host_capacity}
        self._recent = _RecentUse()
        self._tiers = self._empty()

    def _empty(self) -> dict[Tier, TierShadows]:
        def order() -> EvictionOrder | None:
            return None if self.candidate is None else create_orders(self.candidate).host

        return {tier: TierShadows(tier, places, order()) for tier, places in self._sizes.items()}

    def on_event(self, event: CacheEvent) -> None:
        match event:
            case LookedUp(version=version, outcome=outcome):
                distance = self._recent.use(version.id)
                in_slot, in_host = outcome is CacheOutcome.GPU_HIT, outcome is not CacheOutcome.MISS
                self._tiers[Tier.GPU].look_up(version.id, distance, hit=in_slot)
                self._tiers[Tier.HOST].look_up(version.id, distance, hit=in_host)
            case MovedIn(version, Transition.DISK_TO_HOST, seconds):
                for tier in self._tiers.values():
                    tier.learn_cost(version.id, version.size_bytes, seconds)
            case EngineLost():
                self._recent = _RecentUse()
                self._tiers = self._empty()

    def windows(self) -> list[Window]:
        """Of the slots, and of host memory; empty before the first lookup."""
        windows = [tier.window() for tier in self._tiers.values()]
        return [window for window in windows if window.lookups]

    def describe_last_miss(self, version: VersionId) -> str:
        """What would have made a hit of it; empty if nothing is known."""
        parts = []
        for tier, noun in ((Tier.GPU, "slots"), (Tier.HOST, "places in host memory")):
            miss = self._tiers[tier].last_miss(version)
            if miss is None:
                continue
            if miss.needed is not None and miss.needed > miss.places:
                parts.append(f"With {miss.needed} {noun} its last miss would have been a hit.")
            if miss.candidate:
                where = "its slot" if tier is Tier.GPU else "host memory"
                parts.append(f"{self.candidate} would have kept it in {where}.")
        return " ".join(parts)

    def describe_mend(self, regrets: Sequence[TierRegret]) -> str:
        """The cheapest change that helps, and what it would gain; empty if none is known."""
        options = [option for each in regrets for option in self._options(each)]
        return max(options, default=(0.0, ""))[1]

    def _options(self, tier: TierRegret) -> list[tuple[float, str]]:
        slots = tier.tier is Tier.GPU
        flag = "--max-loras" if slots else "--max-cpu-loras"
        where = "in a slot" if slots else "in memory"
        options = []
        if tier.places_for_half is not None:
            gain = f"{tier.gain:.0%} more of the requests would find their adapter {where}"
            options.append((tier.gain, f"With {flag} {tier.places_for_half}, {gain}."))
        gained = tier.regret(CANDIDATE) if CANDIDATE in tier.ratios else 0.0
        if gained >= max(tier.gain, 0.01):  # it costs no memory
            text = f"With --eviction-policy {self.candidate}, {gained:.0%} more of the requests"
            options.append((1 + gained, f"{text} would find their adapter {where}."))
        return options
