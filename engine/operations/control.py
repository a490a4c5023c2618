"""Cache control: the operators' interface to the cache of one engine or of several replicas."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from engine.cache.controller import CacheController
from engine.cache.snapshot import CacheSnapshot
from engine.errors import AdapterInUse
from engine.operations.pins import ActivePin, PinService
from engine.ports import EngineState
from engine.telemetry.decision_log import DecisionLog, LoggedEvent
from engine.types import AdapterVersion, Tier
from registry.auth.caller import actor_name
from registry.auth.client_address import client_address
from registry.errors import RegistryError

logger = logging.getLogger(__name__)

FORCED_EVICTION_SECONDS = 30.0  # requests that are ended give their leases back within moments
EVICTION_SECONDS = 600.0

ONLY_REPLICA = ""
"""The name of a single engine."""


class CacheControl(Protocol):
    """State is reported by replica name. Raises EngineUnavailable."""

    async def snapshots(self) -> Mapping[str, CacheSnapshot]: ...

    async def engine_states(self) -> Mapping[str, EngineState]:
        """Read back from each engine, and compared with its controller's state."""

    async def about(self, version: AdapterVersion) -> Sequence[LoggedEvent]:
        """The last events of the version and of the engines, newest first."""

    async def pin(
        self,
        version: AdapterVersion,
        tier: Tier,
        ttl_seconds: float | None,
        replicas: int | None,
        *,
        actor: str,
    ) -> ActivePin:
        """On this many replicas, or on all. Raises what `PinService.pin` raises."""

    async def pins(self) -> Sequence[ActivePin]:
        """Oldest first."""

    async def unpin(self, version: AdapterVersion, *, actor: str) -> Tier:
        """Raises what `PinService.unpin` raises."""

    async def prefetch(self, version: AdapterVersion, replicas: int | None) -> None:
        """On this many replicas, or on all. Raises what `CacheController.prefetch` raises."""

    async def evict(self, version: AdapterVersion, *, wait: bool, force: bool) -> bool:
        """From every replica. Raises what `CacheController.evict` raises."""


class EngineCacheControl:
    """Cache control of a single engine."""

    def __init__(self, controller: CacheController, pins: PinService, log: DecisionLog) -> None:
        self._controller = controller
        self._pins = pins
        self._log = log

    async def snapshots(self) -> Mapping[str, CacheSnapshot]:
        return {ONLY_REPLICA: self._controller.snapshot()}

    async def engine_states(self) -> Mapping[str, EngineState]:
        return {ONLY_REPLICA: await self._controller.reconcile()}

    async def about(self, version: AdapterVersion) -> Sequence[LoggedEvent]:
        return self._log.about(version.id)

    async def pin(
        self,
        version: AdapterVersion,
        tier: Tier,
        ttl_seconds: float | None,
        replicas: int | None,
        *,
        actor: str,
    ) -> ActivePin:
        return await self._pins.pin(version, tier, ttl_seconds, actor=actor, replicas=replicas)

    async def pins(self) -> Sequence[ActivePin]:
        return self._pins.active

    async def unpin(self, version: AdapterVersion, *, actor: str) -> Tier:
        return await self._pins.unpin(version, actor=actor)

    async def prefetch(self, version: AdapterVersion, replicas: int | None) -> None:
        if (why := self._controller.unavailable) is not None:
            raise why
        self._controller.prefetch(version)

    async def evict(self, version: AdapterVersion, *, wait: bool, force: bool) -> bool:
        return await evict_in_time(self._controller, version, wait=wait, force=force)


async def evict_in_time(
    controller: CacheController, version: AdapterVersion, *, wait: bool, force: bool
) -> bool:
    """As the controller does. Raises AdapterInUse too if that takes too long: it goes on then."""
    seconds = FORCED_EVICTION_SECONDS if force else EVICTION_SECONDS
    try:
        async with asyncio.timeout(seconds):
            return await controller.evict(version, wait=wait, force=force)
    except TimeoutError:
        raise AdapterInUse(
            f"{version.reference} is still in use after {seconds:.0f} s: "
            "it takes no new requests and is evicted once those that hold it have ended"
        ) from None


class EvictionLog(Protocol):
    """Raises RegistryError if the database can't be used."""

    async def record_eviction(self, version_id: int, *, actor: str, force: bool) -> None: ...


async def record_eviction(log: EvictionLog, version: AdapterVersion, *, force: bool) -> None:
    """The eviction has succeeded, and the operator learns so even if it can't be recorded now."""
    try:
        await log.record_eviction(version.id, actor=actor_name(), force=force)
    except RegistryError as error:
        logger.warning(
            "%s was evicted by %s from %s, which is not among the events: %s",
            version.reference,
            actor_name(),
            client_address(),
            error.detail,
        )
