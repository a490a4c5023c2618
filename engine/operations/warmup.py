"""Warm-up: reloads the adapters that were in memory before a restart, hottest first."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import Protocol

from engine.cache.controller import CacheController
from engine.errors import EngineError
from engine.operations.pins import PinService
from engine.ports import Resolver
from engine.types import AdapterVersion, VersionId
from registry.errors import RegistryError

logger = logging.getLogger(__name__)


class ResidencyStore(Protocol):
    """Raises RegistryError if the database can't be used."""

    async def save_residents(self, version_ids: Sequence[int]) -> None: ...
    async def residents(self) -> Sequence[str]: ...


class WarmUp:
    """Stores which adapters are in host memory. Runs in the background: requests come first."""

    def __init__(
        self,
        controller: CacheController,
        pins: PinService,
        store: ResidencyStore,
        resolver: Resolver,
        *,
        save_seconds: float,
    ) -> None:
        self._controller = controller
        self._pins = pins
        self._store = store
        self._resolver = resolver
        self._save_seconds = save_seconds
        self._saved: list[VersionId] = []
        self._remembered: list[AdapterVersion] | None = None

    async def run(self) -> None:
        """Restore, then save the residents periodically, until cancelled."""
        await self._restore()
        try:
            while True:
                await asyncio.sleep(self._save_seconds)
                await run_to_completion(self.save())
        finally:
            await self.save()

    async def _restore(self) -> None:
        """Pins first, then the former residents, while there is room."""
        try:
            await self._pins.restore()
            await self._prefetch(await self._store.residents())
        except RegistryError as error:
            logger.warning("nothing can be warmed up: %s", error.detail)

    def remember(self) -> None:
        """Called when the engine is lost, before the controller clears its state.

        One that dies asleep is lost twice: the second time there is nothing to be seen.
        """
        if self._controller.unavailable is None:
            self._remembered = self._residents()

    async def reload(self) -> None:
        """Fill a new engine with what `remember` recorded."""
        remembered, self._remembered = self._remembered or [], None
        await self._pins.repin()
        await self._prefetch([version.reference for version in remembered])

    async def save(self) -> None:
        """Save host memory's residents, or while the engine is down those that it had."""
        lost = self._controller.unavailable is not None
        known = self._remembered if lost else self._residents()
        if known is None or (residents := [version.id for version in known]) == self._saved:
            return
        try:
            await self._store.save_residents(residents)
        except RegistryError as error:
            logger.warning("the adapters in memory could not be saved: %s", error.detail)
        else:
            self._saved = residents

    def _residents(self) -> list[AdapterVersion]:
        """Most recently used first."""
        return [resident.version for resident in reversed(self._controller.snapshot().host)]

    async def _prefetch(self, references: Sequence[str]) -> None:
        self.prefetch_missing(await resolve_servable(references, self._resolver))

    def prefetch_missing(self, versions: Sequence[AdapterVersion]) -> None:
        """Prefetch those that are not in memory, in order, while there is room."""
        snapshot = self._controller.snapshot()
        here = {resident.version.id for resident in snapshot.host}
        here.update(version.id for version in snapshot.loading)
        missing = [version for version in versions if version.id not in here]
        for version in missing[: snapshot.host_capacity - len(here)]:
            try:
                self._controller.record_loss(version.id)
                self._controller.prefetch(version)
            except EngineError as error:
                _not_warmed_up(version.reference, error)


async def resolve_servable(references: Iterable[str], resolver: Resolver) -> list[AdapterVersion]:
    """Resolve references, without those that are no longer served."""
    found = []
    for reference in references:
        try:
            found.append(await resolver.resolve(reference))
        except RegistryError as error:
            _not_warmed_up(reference, error)
    return found


def _not_warmed_up(reference: str, error: EngineError | RegistryError) -> None:
    logger.warning("%s is not warmed up: %s", reference, error.detail)


async def run_to_completion(work: Coroutine[None, None, None]) -> None:
    """Even if this task is cancelled: a transaction cut short leaks its connection."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
