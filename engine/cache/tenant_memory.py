"""Tenant memory: evicts a tenant's own adapters where its host bytes are short."""

from collections.abc import Callable, Collection, Set
from dataclasses import dataclass

from engine.cache.executor import DecisionExecutor
from engine.cache.state import CacheState
from engine.cache.tenant_index import TenantIndex
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
        self._index = TenantIndex(policy, self._owner)

    def max_bytes(self, tenant: str) -> int | None:
        return self._tenancy.limits_of(tenant).max_host_bytes

    def bytes_of(self, versions: Collection[VersionId]) -> int:
        return sum(map(self._policy.size_of, versions))

    def held_bytes(self, tenant: str) -> int:
        """Of what is in host memory, or being loaded."""
        return self._index.bytes_of(tenant)

    def pinned(self, tenant: str) -> Set[VersionId]:
        return self._index.pinned(tenant)

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
        if version.id in in_use or self._index.has(tenant, version.id):
            return True
        beside = {each for each in in_use if not self._index.has(tenant, each)}
        entering_bytes = self.bytes_of({*beside, version.id})
        excess_bytes = self._index.bytes_of(tenant) + entering_bytes - limit
        victims = self._victims(tenant, excess_bytes, in_use)
        if sum(map(self._policy.size_of, victims)) < excess_bytes:
            return False
        self._evict(victims)
        return True

    def trim(self, in_use: Callable[[str], Collection[VersionId]]) -> None:
        """A limit was lowered, or what was loaded takes more than its files did."""
        for tenant in self._index.tenants():
            limit, taken_bytes = self.max_bytes(tenant), self._index.bytes_of(tenant)
            if limit is not None and taken_bytes > limit:
                self._evict(self._victims(tenant, taken_bytes - limit, in_use(tenant)))

    def _victims(
        self, tenant: str, excess_bytes: int, in_use: Collection[VersionId]
    ) -> list[VersionId]:
        victims: list[VersionId] = []
        for version in self._index.evictable(tenant):
            if excess_bytes <= 0:
                break
            if version in in_use:
                continue
            victims.append(version)
            excess_bytes -= self._policy.size_of(version)
        return victims

    def _evict(self, victims: Collection[VersionId]) -> None:
        for victim in victims:
            self._policy.evict(victim, reason=EvictionReason.TENANT_LIMIT)
        if victims:
            self._executor.advance()

    def _owner(self, version: VersionId) -> str | None:
        known = self._state.find_version(version)
        return None if known is None else self._tenancy.tenant_of(known.adapter)
