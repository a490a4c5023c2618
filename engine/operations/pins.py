"""Pins with a time to live, stored so that they outlive the process."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from weakref import WeakValueDictionary

from engine.cache.controller import CacheController
from engine.errors import EngineError, NotPinned
from engine.ports import Resolver
from engine.types import AdapterVersion, Tier, VersionId
from registry.errors import RegistryError

logger = logging.getLogger(__name__)

_EXPIRY_CHECK_SECONDS = 1.0


class StoredPin(Protocol):
    """A pin as stored. `reference` names its version."""

    @property
    def reference(self) -> str: ...
    @property
    def tier(self) -> str: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def replicas(self) -> int | None: ...


class PinStore(Protocol):
    """Raises RegistryError if the database can't be used."""

    async def save_pin(
        self,
        version_id: int,
        tier: str,
        expires_at: datetime | None,
        *,
        actor: str,
        replicas: int | None,
    ) -> None: ...
    async def remove_pin(self, version_id: int, *, actor: str) -> None: ...
    async def expire_pins(self, version_ids: Sequence[int]) -> None: ...
    async def pins(self) -> Sequence[StoredPin]: ...


@dataclass(frozen=True, slots=True)
class ActivePin:
    """`expires_at` None: until it is unpinned. `replicas` None: on all of them.

    `ends` is the expiry on the monotonic clock, which decides during this process's lifetime.
    """

    version: AdapterVersion
    tier: Tier
    expires_at: datetime | None
    ends: float = math.inf
    replicas: int | None = None


class PinService:
    """Pins and unpins for operators, stores pins, and expires them.

    One change of a version's pin at a time is written: controller, memory and database then agree,
    whatever else was requested meanwhile. The last one written holds.
    """

    def __init__(
        self,
        controller: CacheController,
        store: PinStore,
        resolver: Resolver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._controller = controller
        self._store = store
        self._resolver = resolver
        self._clock = clock
        self._active: dict[VersionId, ActivePin] = {}
        self._locks: WeakValueDictionary[VersionId, asyncio.Lock] = WeakValueDictionary()

    @property
    def active(self) -> Sequence[ActivePin]:
        """Oldest first."""
        return tuple(self._active.values())

    async def pin(
        self,
        version: AdapterVersion,
        tier: Tier,
        ttl_seconds: float | None = None,
        *,
        actor: str,
        replicas: int | None = None,
    ) -> ActivePin:
        """Load the version and pin it, for `ttl_seconds` if given.

        `replicas` is only stored, for a server with several.

        Raises what `CacheController.pin` raises, or RegistryError; then its pin is as before.
        """
        async with self._lock_of(version.id):
            before = self._active.get(version.id)
            await self._controller.pin(version, tier)
            expires_at, ends = None, math.inf
            if ttl_seconds is not None:
                expires_at = _now() + timedelta(seconds=ttl_seconds)
                ends = self._clock() + ttl_seconds
            pin = ActivePin(version, tier, expires_at, ends, replicas)
            try:
                await self._store.save_pin(
                    version.id, tier, expires_at, actor=actor, replicas=replicas
                )
            except BaseException:
                if before is None:
                    self._drop(version.id)
                elif before.tier is not tier:
                    await self._pin_again(before)
                raise
            self._active[version.id] = pin
            return pin

    async def unpin(self, version: AdapterVersion, *, actor: str) -> Tier:
        """Raises NotPinned, or RegistryError; then it stays pinned."""
        if version.id not in self._active:
            raise NotPinned
        async with self._lock_of(version.id):
            if (pin := self._active.get(version.id)) is None:  # another change was faster
                raise NotPinned
            await self._store.remove_pin(version.id, actor=actor)
            self._drop(version.id)
            return pin.tier

    async def restore(self) -> None:
        """Pin again what an earlier process had pinned. Raises RegistryError.

        A pin that can't be restored now is logged, and stays stored for the next start.
        """
        for stored in await self._store.pins():
            try:
                version = await self._resolver.resolve(stored.reference)
                await self._controller.pin(version, Tier(stored.tier))
            except (EngineError, RegistryError) as error:
                logger.warning("%s could not be pinned again: %s", stored.reference, error.detail)
            else:
                ends = self._ends(stored.expires_at)
                self._active[version.id] = ActivePin(
                    version, Tier(stored.tier), stored.expires_at, ends, stored.replicas
                )

    async def repin(self) -> None:
        """Load what is pinned into a new engine: the old one took it along."""
        for pin in self.active:
            async with self._lock_of(pin.version.id):
                if self._active.get(pin.version.id) is not pin:  # unpinned or renewed meanwhile
                    continue
                await self._pin_again(pin)

    async def _pin_again(self, pin: ActivePin) -> None:
        try:
            await self._controller.pin(pin.version, pin.tier)
        except EngineError as error:
            reference = pin.version.reference
            logger.warning("%s could not be pinned again: %s", reference, error.detail)

    async def expire(self) -> None:
        """Remove expired pins, until cancelled."""
        while True:
            await asyncio.sleep(_EXPIRY_CHECK_SECONDS)
            now = self._clock()
            for pin in self.active:
                if pin.ends <= now and not self._lock_of(pin.version.id).locked():
                    await self._expire(pin.version)

    async def _expire(self, version: AdapterVersion) -> None:
        async with self._lock_of(version.id):
            self._drop(version.id)
            logger.info("the pin of %s has expired", version.reference)
            try:
                await self._store.expire_pins([version.id])
            except RegistryError as error:  # a restart would not restore it anyway
                logger.warning("an expired pin is still stored: %s", error.detail)

    def _ends(self, expires_at: datetime | None) -> float:
        if expires_at is None:
            return math.inf
        return self._clock() + (expires_at - _now()).total_seconds()

    def _lock_of(self, version: VersionId) -> asyncio.Lock:
        """Exists while a change holds it or waits for it."""
        return self._locks.setdefault(version, asyncio.Lock())

    def _drop(self, version: VersionId) -> None:
        self._active.pop(version, None)
        if self._controller.is_pinned(version):
            self._controller.unpin(version)


def _now() -> datetime:
    return datetime.now(UTC)
