"""Tenant index: what each tenant has in host memory or on its way there, without any scan.

It follows the policy's changes. Of one tenant, what may leave is in the eviction order.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence, Set

from engine.policy.ordered_index import OrderedIndex
from engine.policy.policy import CachePolicy
from engine.types import VersionId

Owner = Callable[[VersionId], str | None]
"""The tenant that owns a version; None for the platform's own, and for unknown ones."""


class _Tenant:
    """`sizes`: in bytes, of what is in host memory, being loaded, or to be prefetched."""

    def __init__(self) -> None:
        self.sizes: dict[VersionId, int] = {}
        self.pinned: set[VersionId] = set()
        self.total_bytes = 0
        self.evictable = OrderedIndex()

    def put(self, version: VersionId, size_bytes: int) -> None:
        self.total_bytes += size_bytes - self.sizes.get(version, 0)
        self.sizes[version] = size_bytes

    def discard(self, version: VersionId) -> None:
        self.total_bytes -= self.sizes.pop(version, 0)
        self.evictable.discard(version)


class TenantIndex:
    """Changes cost O(log n) in the number of the tenant's own adapters."""

    def __init__(self, policy: CachePolicy, owner: Owner) -> None:
        self._policy = policy
        self._owner = owner
        self._tenants: defaultdict[str, _Tenant] = defaultdict(_Tenant)
        self._owners: dict[VersionId, str] = {}
        policy.follow_changes(self._refresh, self._clear)

    def tenants(self) -> Sequence[str]:
        """Those that have anything there."""
        return list(self._tenants)

    def has(self, tenant: str, version: VersionId) -> bool:
        return tenant in self._tenants and version in self._tenants[tenant].sizes

    def bytes_of(self, tenant: str) -> int:
        return self._tenants[tenant].total_bytes if tenant in self._tenants else 0

    def pinned(self, tenant: str) -> Set[VersionId]:
        """Resident or not."""
        return self._tenants[tenant].pinned if tenant in self._tenants else frozenset()

    def evictable(self, tenant: str) -> Iterator[VersionId]:
        """Neither leased nor waited for nor pinned; the next victim first. Lazy: change nothing
        meanwhile.
        """
        return iter(self._tenants[tenant].evictable if tenant in self._tenants else ())

    def _refresh(self, version: VersionId) -> None:
        tenant = self._owners.get(version) or self._owner(version)
        if tenant is None:
            return
        is_held, is_pinned = self._policy.is_held(version), version in self._policy.pins
        if not (is_held or is_pinned or version in self._owners):
            return  # on disk only, as before
        self._owners[version] = tenant
        own = self._tenants[tenant]
        (own.pinned.add if is_pinned else own.pinned.discard)(version)
        if is_held:
            self._put(own, version)
        else:
            own.discard(version)
        if not (is_held or is_pinned):
            del self._owners[version]
            self._drop_if_empty(tenant)

    def _put(self, own: _Tenant, version: VersionId) -> None:
        size_bytes = self._policy.size_of(version)
        own.put(version, size_bytes)
        if self._policy.is_evictable(version):
            own.evictable.put(version, self._policy.eviction_key(version), size_bytes)
        else:
            own.evictable.discard(version)

    def _drop_if_empty(self, tenant: str) -> None:
        own = self._tenants[tenant]
        if not (own.sizes or own.pinned):
            del self._tenants[tenant]

    def _clear(self) -> None:
        """Nothing is resident any more. Pins stay."""
        for tenant, own in list(self._tenants.items()):
            for version in list(own.sizes):
                own.discard(version)
                if version not in own.pinned:
                    del self._owners[version]
            self._drop_if_empty(tenant)
