"""Shadows: what other policies and more slots would have hit, on the live cache's own lookups."""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.events import CacheEvent, EngineLost, LookedUp, MovedIn
from engine.policy.eviction_orders.base import EvictionOrder
from engine.policy.eviction_orders.choice import create_orders
from engine.policy.optimum import least_misses
from engine.types import CacheOutcome, EvictionPolicy, Tier, Transition, VersionId

WINDOW = 1000  # lookups
STACK = 512  # adapters, by their last use
_MISSES_REMEMBERED = 1024  # versions

_SLOT_HIT, _MISS = CacheOutcome.GPU_HIT, CacheOutcome.MISS

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


class _Lookup(NamedTuple):
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
        found = 1 if version in self._stack else None
        if found is not None:
            for other in reversed(self._stack):
                if other == version:
                    break
                found += 1
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
        self._lookups: deque[_Lookup] = deque(maxlen=2 * WINDOW)  # the window's, and those before
        self.misses: OrderedDict[VersionId, LastMiss] = OrderedDict()

    def look_up(self, version: VersionId, distance: int | None, *, hit: bool) -> None:
        """`distance`: of its last use, see `_RecentUse`."""
        candidate = None if self._candidate is None else self._candidate.look_up(version)
        self._lookups.append(_Lookup(version, hit, candidate, distance))
        if not hit:
            self.misses[version] = LastMiss(self._places, distance, bool(candidate))
            self.misses.move_to_end(version)
            if len(self.misses) > _MISSES_REMEMBERED:
                self.misses.popitem(last=False)

    def learn_cost(self, version: VersionId, size_bytes: int, load_seconds: float) -> None:
        """What its load from disk took: some candidates go by that."""
        if self._candidate is not None:
            self._candidate.learn_cost(version, size_bytes, load_seconds)

    def window(self) -> "Window":
        known = tuple(self._lookups)
        before = tuple(each.version for each in known[:-WINDOW])
        return Window(self._tier, self._places, before, known[-WINDOW:])


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

    observed = frozenset({LookedUp, MovedIn, EngineLost})

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
        self._places = slots, host_capacity
        self._reset()

    def _reset(self) -> None:
        self._recent = _RecentUse()
        self._slots = TierShadows(Tier.GPU, self._places[0], self._candidate_order())
        self._memory = TierShadows(Tier.HOST, self._places[1], self._candidate_order())

    def _candidate_order(self) -> EvictionOrder | None:
        return None if self.candidate is None else create_orders(self.candidate).host

    def on_event(self, event: CacheEvent) -> None:
        match event:
            case LookedUp(version=version, outcome=outcome):
                distance = self._recent.use(version.id)
                self._slots.look_up(version.id, distance, hit=outcome is _SLOT_HIT)
                self._memory.look_up(version.id, distance, hit=outcome is not _MISS)
            case MovedIn(version, Transition.DISK_TO_HOST, seconds):
                for tier in (self._slots, self._memory):
                    tier.learn_cost(version.id, version.size_bytes, seconds)
            case EngineLost():
                self._reset()

    def windows(self) -> list[Window]:
        """Of the slots, and of host memory; empty before the first lookup."""
        windows = [tier.window() for tier in (self._slots, self._memory)]
        return [window for window in windows if window.lookups]

    def describe_last_miss(self, version: VersionId) -> str:
        """What would have made a hit of it; empty if nothing is known."""
        parts = []
        for tier, noun in ((self._slots, "slots"), (self._memory, "places in host memory")):
            miss = tier.misses.get(version)
            if miss is None:
                continue
            if miss.needed is not None and miss.needed > miss.places:
                parts.append(f"With {miss.needed} {noun} its last miss would have been a hit.")
            if miss.candidate:
                where = "its slot" if tier is self._slots else "host memory"
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
        options, found = [], f"more of the requests would find their adapter {where}."
        if tier.places_for_half is not None:
            text = f"With {flag} {tier.places_for_half}, {tier.gain:.0%} {found}"
            options.append((tier.gain, text))
        gained = tier.regret(CANDIDATE) if CANDIDATE in tier.ratios else 0.0
        if gained >= max(tier.gain, 0.01):  # it costs no memory
            text = f"With --eviction-policy {self.candidate}, {gained:.0%} {found}"
            options.append((1 + gained, text))
        return options
