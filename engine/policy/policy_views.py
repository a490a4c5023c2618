"""Policy views: what the rest of the cache reads of the policy. Pure."""

from collections.abc import Collection, Iterable, Iterator

from engine.policy.decisions import Residency
from engine.policy.eviction import VictimSelector
from engine.policy.eviction_orders.base import EvictionKey
from engine.policy.pin_budget import PinBudget
from engine.policy.place import ACTIVATING, COMMITTING, HOST, SLOT
from engine.policy.planner import Planner
from engine.policy.tiers import Tiers
from engine.policy.wait_queue import WaitQueue
from engine.types import CacheOutcome, VersionId


class PolicyViews:
    """Reads only. `CachePolicy` sets its parts."""

    wait_queue: WaitQueue
    pins: PinBudget
    _tiers: Tiers
    _victims: VictimSelector
    _planner: Planner

    def residency(self) -> Residency:
        """Both tiers in the eviction order, including adapters that are moving in."""
        return self._tiers.residency()

    def held(self) -> Collection[VersionId]:
        """All that are in a tier or on their way into one, in no order."""
        return self._tiers.places()

    def host_in_eviction_order(self) -> Iterator[VersionId]:
        """The next victim first. Lazy: change nothing meanwhile."""
        return self._tiers.host_in_eviction_order()

    def lease_count(self, version: VersionId) -> int:
        return self._tiers.lease_count(version)

    def is_idle(self) -> bool:
        return not self._tiers.any_leases() and not len(self.wait_queue)

    def size_of(self, version: VersionId) -> int:
        return self._tiers.size_of(version)

    def is_wanted(self, version: VersionId) -> bool:
        """Pinned, waited for or to be prefetched."""
        awaited = version in self.pins or self.wait_queue.count(version) > 0
        return awaited or version in self._planner.prefetches

    def is_needed(self, version: VersionId) -> bool:
        """Wanted, in a tier, or on its way into one."""
        return self._tiers.place_of(version) is not None or self.is_wanted(version)

    def is_held(self, version: VersionId) -> bool:
        """In host memory, on its way there, or to be prefetched."""
        return self._tiers.place_of(version) is not None or version in self._planner.prefetches

    def is_evictable(self, version: VersionId) -> bool:
        """In host memory, neither moving nor leased nor waited for nor pinned."""
        settled = self._tiers.is_settled(version) and version not in self.pins
        return settled and not (self._tiers.lease_count(version) or self.wait_queue.count(version))

    def eviction_key(self, version: VersionId) -> EvictionKey:
        """Of one in host memory; the lowest is the next victim."""
        return self._tiers.eviction_key(version)

    def _wanted(self) -> Iterable[VersionId]:
        return [*self.wait_queue.versions(), *self._planner.prefetches]

    def hot_adapters(self) -> list[VersionId]:
        """In a slot and not draining."""
        return self._victims.able_to_drain()

    def outcome_of(self, version: VersionId) -> CacheOutcome:
        """Of a request that comes for it now."""
        place = self._tiers.place_of(version)
        if place is SLOT:
            return CacheOutcome.GPU_HIT
        return CacheOutcome.HOST_HIT if place in (HOST, ACTIVATING) else CacheOutcome.MISS

    def has_drains_for(self, version: VersionId) -> bool:
        return self._victims.has_drains_for(version)

    def is_leaving(self, version: VersionId) -> bool:
        return version in self._planner.pending_evictions or self._victims.is_draining(version)

    def is_on_disk_only(self, version: VersionId) -> bool:
        return self._tiers.place_of(version) is None

    def in_host(self, version: VersionId) -> bool:
        has_place = self._tiers.has_host_place(version)
        return has_place and self._tiers.place_of(version) is not COMMITTING

    def in_transit(self) -> tuple[VersionId, ...]:
        return self._tiers.in_transit()
