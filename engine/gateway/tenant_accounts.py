"""Tenant accounts: the tokens and the slot-seconds that each tenant's requests used."""

import time
from collections.abc import Callable
from typing import Protocol

from engine.types import VersionId, WorkDone


class TenantCounter(Protocol):
    def count_tokens(self, tenant: str, prompt: int, generation: int) -> None: ...
    def count_slot_seconds(self, tenant: str, seconds: float) -> None: ...


class NullTenantCounter:
    """Null counter, without tenants."""

    def count_tokens(self, tenant: str, prompt: int, generation: int) -> None:
        pass

    def count_slot_seconds(self, tenant: str, seconds: float) -> None:
        pass


class TenantAccounts:
    """A tenant is that of the request's key: it pays for an adapter that it was granted too.

    Requests of a tenant for one adapter at the same time use one slot, which counts once.
    """

    def __init__(self, counter: TenantCounter, clock: Callable[[], float] = time.monotonic) -> None:
        self._counter = counter
        self._clock = clock
        self._leases: dict[tuple[str, VersionId], _SlotUse] = {}

    def count_tokens(self, tenant: str, work: WorkDone) -> None:
        self._counter.count_tokens(tenant, work.prompt_tokens, work.generated_tokens)

    def begin_lease(self, tenant: str, version: VersionId) -> None:
        use = self._leases.get((tenant, version))
        if use is None:
            use = self._leases[tenant, version] = _SlotUse(self._clock())
        use.leases += 1

    def end_lease(self, tenant: str, version: VersionId) -> None:
        use, now = self._leases[tenant, version], self._clock()
        self._counter.count_slot_seconds(tenant, now - use.counted_until)
        use.counted_until = now
        use.leases -= 1
        if not use.leases:
            del self._leases[tenant, version]


class _SlotUse:
    __slots__ = ("counted_until", "leases")

    def __init__(self, began: float) -> None:
        self.counted_until = began
        self.leases = 0
