"""Tenant memory: evicts a tenant's own adapters where its host bytes are short."""

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
    """The tenant that owns an adapter, by the adapter's name, and the tenant's limits."""

    tenant_of: Callable[[str], str | None] = lambda adapter: None
    limits_of: LimitsOf = unlimited
    on_refusal: RefusalObserver = null_refusal_observer


class TenantMemory:
    """Counts what is in host memory or being loaded; evicts what is idle and not pinned.

    `in_use`: the tenant's adapters that are leased or waited for.
    """

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

    def versions_of(self, tenant: str) -> set[VersionId]:
        """In host memory, or being loaded."""
        return {version for version in self._all_versions() if self._owner(version) == tenant}

    def pinned(self, tenant: str) -> set[VersionId]:
        return {version for version in self._policy.pins if self._owner(version) == tenant}

    def fits_beside_pins(self, tenant: str, version: AdapterVersion) -> bool:
        """Whether it fits once everything else that may be evicted is evicted."""
        limit = self.max_bytes(tenant)
        return limit is None or self.bytes_of({*self.pinned(tenant), version.id}) <= limit

    def make_room(
        self, tenant: str, version: AdapterVersion, in_use: Collection[VersionId]
    ) -> bool:
        """Evict idle adapters of the tenant for this one, if that makes enough room."""
        limit = self.max_bytes(tenant)
        if limit is None or self._policy.in_host(version.id):
            return True
        counted = {*self.versions_of(tenant), *in_use}
        if version.id in counted:
            return True
        excess_bytes = self.bytes_of({*counted, version.id}) - limit
        victims = self._victims(tenant, excess_bytes, in_use)
        if sum(map(self._policy.size_of, victims)) < excess_bytes:
            return False
        self._evict(victims)
        return True

    def trim(self, in_use: Callable[[str], Collection[VersionId]]) -> None:
        """A limit was lowered, or what was loaded takes more than its files did."""
        taken: Counter[str] = Counter()
        for version in self._all_versions():
            if (tenant := self._owner(version)) is not None:
                taken[tenant] += self._policy.size_of(version)
        for tenant, taken_bytes in taken.items():
            limit = self.max_bytes(tenant)
            if limit is not None and taken_bytes > limit:
                self._evict(self._victims(tenant, taken_bytes - limit, in_use(tenant)))

    def _victims(
        self, tenant: str, excess_bytes: int, in_use: Collection[VersionId]
    ) -> list[VersionId]:
        victims: list[VersionId] = []
        for version in self._candidates(tenant, in_use):
            if excess_bytes <= 0:
                break
            victims.append(version)
            excess_bytes -= self._policy.size_of(version)
        return victims

    def _candidates(self, tenant: str, in_use: Collection[VersionId]) -> Iterator[VersionId]:
        """What may be evicted, in the eviction order. Lazy: change nothing meanwhile."""
        for version in self._policy.host_in_eviction_order():
            used = version in in_use or self._policy.in_use(version)
            if self._owner(version) == tenant and not used and version not in self._policy.pins:
                yield version

    def _evict(self, victims: Collection[VersionId]) -> None:
        for victim in victims:
            self._policy.evict(victim, reason=EvictionReason.TENANT_LIMIT)
        if victims:
            self._executor.advance()

    def _all_versions(self) -> set[VersionId]:
        policy = self._policy
        return {*policy.residency().host, *policy.in_transit(), *policy.pending_prefetches()}

    def _owner(self, version: VersionId) -> str | None:
        known = self._state.find_version(version)
        return None if known is None else self._tenancy.tenant_of(known.adapter)
