"""Pins across replicas: stored once, held by as many replicas as each pin asks for.

The adapter's rendezvous order decides which ones, so that few pins move when replicas come or go.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from engine.errors import EngineError, EngineUnavailable, NotPinned
from engine.operations.pins import ActivePin, PinStore
from engine.ports import Resolver
from engine.types import AdapterVersion, Tier, VersionId
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
        self._kept: dict[VersionId, ActivePin] = {}
        self._changing: set[VersionId] = set()  # pins that are between two states
        self._changes: WeakValueDictionary[VersionId, asyncio.Lock] = WeakValueDictionary()
        self._calls: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
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
        async with self._change_of(version.id):
            try:
                await self._hold(version, tier, count)
                await self._store.save_pin(
                    version.id, tier, expires_at, actor=actor, replicas=count
                )
                kept = self._kept[version.id] = ActivePin(version, tier, expires_at, replicas=count)
            finally:  # a smaller count releases some, and a failure all
                self._changing.discard(version.id)
                await self._hold_if_served()
        return kept

    @asynccontextmanager
    async def _change_of(self, version: VersionId) -> AsyncIterator[None]:
        """The only one of its pin, which no replica hears of meanwhile. Others go on."""
        async with self._changes.setdefault(version, asyncio.Lock()):
            self._changing.add(version)
            try:
                yield
            finally:
                self._changing.discard(version)

    async def _hold(self, version: AdapterVersion, tier: Tier, count: int | None) -> None:
        limits = await serving_ranks(self._replicas, version.rank)
        chosen = first_for(version.reference, limits, count, rank=version.rank, max_ranks=limits)
        answers = await self._replicas.call("pin", version, tier, only=chosen)
        answers.check()
        self._recent.record(version.id, chosen)

    async def unpin(self, version: AdapterVersion, *, actor: str) -> Tier:
        """Raises NotPinned, or RegistryError; then it stays pinned."""
        async with self._change_of(version.id):
            if version.id not in self._kept:
                raise NotPinned
            await self._store.remove_pin(version.id, actor=actor)
            kept = self._kept.pop(version.id)
            self._changing.discard(version.id)
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
        for version, pin in list(self._kept.items()):
            if pin.expires_at and pin.expires_at <= now and version not in self._changing:
                await self._expire(version, pin)

    async def _expire(self, version: VersionId, pin: ActivePin) -> None:
        async with self._change_of(version):
            if self._kept.get(version) is not pin:  # renewed, or unpinned
                return
            del self._kept[version]
            try:
                await self._store.expire_pins([version])
            except RegistryError as error:
                logger.warning("an expired pin is still stored: %s", error.detail)

    async def _hold_if_served(self) -> None:
        """What is changed holds; replicas that are away learn it when they are back."""
        with suppress(EngineUnavailable):
            await self._hold_all()

    async def _hold_all(self) -> None:
        """Raises EngineUnavailable."""
        limits = await serving_ranks(self._replicas)
        self._warned = {each for each in self._warned if each[0] in limits}
        await asyncio.gather(*(self._hold_on(name, limits) for name in limits))

    async def _hold_on(self, name: str, limits: Mapping[str, int]) -> None:
        """One call at a time, so that a replica hears of the pins in the order of their changes."""
        async with self._calls.setdefault(name, asyncio.Lock()):
            pins, changing = self._wanted(limits)[name], frozenset(self._changing)
            with suppress(EngineUnavailable):  # it has ended: its pins are another's the next time
                answers = await self._replicas.call(
                    "hold_pins", pins, changing, only=frozenset({name})
                )
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
