"""Pins across replicas: stored once, held by as many replicas as each pin asks for.

The adapter's rendezvous order decides which ones, so that few pins move when replicas come or go.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from engine.errors import EngineError, EngineUnavailable, NotPinned
from engine.operations.pins import ActivePin, PinStore
from engine.ports import Resolver
from engine.types import AdapterVersion, Tier
from fleet.ingress.recent_residency import RecentResidency
from fleet.ingress.serving_replicas import serving_ranks
from fleet.messages import Failure, WantedPin
from fleet.placement import first_for
from fleet.ports import Replicas
from registry.errors import RegistryError

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class FleetPins:
    """The only writer of pins: a fleet has one ingress."""

    def __init__(
        self, replicas: Replicas, store: PinStore, resolver: Resolver, recent: RecentResidency
    ) -> None:
        self._replicas = replicas
        self._recent = recent
        self._store = store
        self._resolver = resolver
        self._kept: dict[int, ActivePin] = {}
        self._one_at_a_time = asyncio.Lock()
        self._warned: set[tuple[str, str]] = set()

    async def list(self) -> Sequence[ActivePin]:
        """All pins, the oldest first."""
        return tuple(self._kept.values())

    async def pin(
        self,
        version: AdapterVersion,
        tier: Tier,
        ttl_seconds: float | None,
        count: int | None,
        *,
        actor: str,
    ) -> ActivePin:
        """Pin on `count` replicas, or on all that serve its rank now (None); if one fails, on none.

        Raises what `CacheController.pin` raises, or RegistryError.
        """
        expires_at = None
        if ttl_seconds is not None:
            expires_at = datetime.now(UTC) + timedelta(seconds=ttl_seconds)
        async with self._one_at_a_time:
            await self._hold(version, tier, count)
            try:
                await self._store.save_pin(
                    version.id, tier, expires_at, actor=actor, replicas=count
                )
            except BaseException:
                await self._hold_if_served()
                raise
            kept = ActivePin(version, tier, expires_at, replicas=count)
            self._kept[version.id] = kept
            await self._hold_if_served()  # a smaller count releases some
        return kept

    async def _hold(self, version: AdapterVersion, tier: Tier, count: int | None) -> None:
        limits = await serving_ranks(self._replicas, version.rank)
        chosen = first_for(version.reference, limits, count, rank=version.rank, max_ranks=limits)
        answers = await self._replicas.call("pin", version, tier, only=chosen)
        if answers.failures:
            await self._hold_if_served()
            answers.check()
        self._recent.record(version.id, chosen)

    async def unpin(self, version: AdapterVersion, *, actor: str) -> Tier:
        """Raises NotPinned, or RegistryError; then it stays pinned."""
        async with self._one_at_a_time:
            if version.id not in self._kept:
                raise NotPinned
            await self._store.remove_pin(version.id, actor=actor)
            kept = self._kept.pop(version.id)
            await self._hold_if_served()
        return kept.tier

    async def run(self) -> None:
        """Pin on replicas that join, and end expired pins, until cancelled."""
        while True:
            try:
                await self.hold()
            except EngineError as error:
                logger.debug("pins are not held: %s", error.detail)
            await asyncio.sleep(_LOOK_SECONDS)

    async def hold(self) -> None:
        """End expired pins; apply the others to all replicas. Raises EngineUnavailable."""
        async with self._one_at_a_time:
            await self._end_expired()
            await self._hold_all()

    async def restore(self) -> None:
        """Read the stored pins. Raises RegistryError."""
        for stored in await self._store.pins():
            try:
                version = await self._resolver.resolve(stored.reference)
            except RegistryError as error:
                logger.warning("%s is not pinned again: %s", stored.reference, error.detail)
                continue
            tier, count = Tier(stored.tier), stored.replicas
            self._kept[version.id] = ActivePin(version, tier, stored.expires_at, replicas=count)

    async def _end_expired(self) -> None:
        now = datetime.now(UTC)
        expired = [
            id_ for id_, pin in self._kept.items() if pin.expires_at and pin.expires_at <= now
        ]
        if not expired:
            return
        for id_ in expired:
            del self._kept[id_]
        try:
            await self._store.expire_pins(expired)
        except RegistryError as error:
            logger.warning("expired pins are still stored: %s", error.detail)

    async def _hold_if_served(self) -> None:
        """What is changed holds; replicas that are away learn it when they are back."""
        with suppress(EngineUnavailable):
            await self._hold_all()

    async def _hold_all(self) -> None:
        """Raises EngineUnavailable."""
        wanted = self._wanted(await serving_ranks(self._replicas))
        await asyncio.gather(*(self._hold_on(name, pins) for name, pins in wanted.items()))

    async def _hold_on(self, name: str, pins: Sequence[WantedPin]) -> None:
        with suppress(EngineUnavailable):  # it is gone: its pins are another's the next time
            answers = await self._replicas.call("hold_pins", pins, only=frozenset({name}))
            for replica, failures in answers.values.items():
                self._warn(replica, failures)

    def _wanted(self, limits: Mapping[str, int]) -> Mapping[str, Sequence[WantedPin]]:
        """`limits`: the largest rank that each replica serves. Not where it has no room."""
        wanted: dict[str, list[WantedPin]] = {name: [] for name in limits}
        largest = max(limits.values())
        for kept in self._kept.values():
            reference, rank = kept.version.reference, kept.version.rank
            if rank > largest:
                continue
            for name in first_for(reference, limits, kept.replicas, rank=rank, max_ranks=limits):
                wanted[name].append(WantedPin(kept.version, kept.tier))
        return wanted

    def _warn(self, replica: str, failures: Mapping[str, Failure]) -> None:
        """Log each failure once, until the pin is held."""
        failing = {(replica, reference) for reference in failures}
        for _, reference in failing - self._warned:
            detail = failures[reference].detail
            logger.warning("%s is not pinned on %s: %s", reference, replica, detail)
        self._warned = {each for each in self._warned if each[0] != replica} | failing
