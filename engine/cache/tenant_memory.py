"""Host memory of tenants: for one more adapter of a tenant, others of the same one leave."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from engine.cache.executor import DecisionExecutor
from engine.cache.state import CacheState
from engine.policy.policy import CachePolicy
from engine.types import AdapterVersion, EvictionReason, VersionId
from registry.quotas.limits import LimitsOf, RefusalObserver, null_refusal_observer, unlimited


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Whose an adapter is, by its name, and what its tenant may have."""

    tenant_of: Callable[[str], str | None] = lambda adapter: None
    limits_of: LimitsOf = unlimited
    refused: RefusalObserver = null_refusal_observer


class TenantMemory:
    """Counts what is there or on its way, and evicts what is idle and not pinned."""

    def __init__(
        self,
        tenancy: Tenancy,
        policy: CachePolicy,
        executor: DecisionExecutor,
        state: CacheState,
    ) -> None:
        self._tenancy = tenancy
        self._policy = policy
        self._executor = executor
        self._state = state

    def max_bytes(self, tenant: str) -> int | None:
        return self._tenancy.limits_of(tenant).max_host_bytes

    def bytes_of(self, versions: Collection[VersionId]) -> int:
        return sum(map(self._policy.size_of, versions))

    def has_come(self, tenant: str) -> set[VersionId]:
        """In host memory, or on the way there."""
        return {version for version in self._everyone() if self._owner(version) == tenant}

    def pinned(self, tenant: str) -> set[VersionId]:
        return {version for version in self._policy.pins if self._owner(version) == tenant}

    def fits_beside_pins(self, tenant: str, version: AdapterVersion) -> bool:
        """Whether there is room for it once all the others have left that may."""
        most = self.max_bytes(tenant)
        return most is None or self.bytes_of({*self.pinned(tenant), version.id}) <= most

    def make_room(
        self, tenant: str, version: AdapterVersion, inside: Collection[VersionId]
    ) -> bool:
        """The tenant's least recently used leave, if that is enough. `inside`: who may not."""
        most = self.max_bytes(tenant)
        if most is None or self._policy.in_host(version.id):
            return True
        there = {*self.has_come(tenant), *inside}
        if version.id in there:
            return True
        over = self.bytes_of({*there, version.id}) - most
        victims = self._victims(tenant, over, inside)
        if sum(map(self._policy.size_of, victims)) < over:
            return False
        self._evict(victims)
        return True

    def trim(self, inside: Callable[[str], Collection[VersionId]]) -> None:
        """A limit was lowered, or what was loaded takes more than its files did."""
        taken: Counter[str] = Counter()
        for version in self._everyone():
            if (tenant := self._owner(version)) is not None:
                taken[tenant] += self._policy.size_of(version)
        for tenant, taken_bytes in taken.items():
            most = self.max_bytes(tenant)
            if most is not None and taken_bytes > most:
                self._evict(self._victims(tenant, taken_bytes - most, inside(tenant)))

    def _victims(
        self, tenant: str, over_bytes: int, inside: Collection[VersionId]
    ) -> list[VersionId]:
        victims: list[VersionId] = []
        for version in self._idle(tenant, inside):
            if over_bytes <= 0:
                break
            victims.append(version)
            over_bytes -= self._policy.size_of(version)
        return victims

    def _idle(self, tenant: str, inside: Collection[VersionId]) -> Iterator[VersionId]:
        """What may be evicted, in the eviction order. Lazy: change nothing meanwhile."""
        for version in self._policy.host_in_eviction_order():
            used = version in inside or self._policy.in_use(version)
            if self._owner(version) == tenant and not used and version not in self._policy.pins:
                yield version

    def _evict(self, victims: Collection[VersionId]) -> None:
        for victim in victims:
            self._policy.evict(victim, reason=EvictionReason.TENANT_LIMIT)
        if victims:
            self._executor.advance()

    def _everyone(self) -> set[VersionId]:
        policy = self._policy
        return {*policy.residency().host, *policy.in_transit(), *policy.pending_prefetches()}

    def _owner(self, version: VersionId) -> str | None:
        known = self._state.find_version(version)
        return None if known is None else self._tenancy.tenant_of(known.adapter)
