"""Promotion on the engine: warm, probe and evict, as the registry's port `ServingEngine`."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from engine.cache.controller import CacheController
from engine.errors import AdapterInUse, AdapterLoadFailed, EngineError, EngineUnavailable
from engine.resolver import for_engine
from engine.types import AdapterVersion, LoadFailure, VersionId
from registry.catalog.types import ResolvedVersion
from registry.errors import EngineAway, ProbeFailed, WarmingFailed

_POLL_SECONDS = 0.2  # between two checks whether an old version is idle


class ProbeOutcome(Protocol):
    @property
    def failure(self) -> str | None:
        """A stable code; None if the version has passed."""


class Probe(Protocol):
    """Generates with a version, under a lease as any request does."""

    async def run(self, version: AdapterVersion) -> ProbeOutcome:
        """Raises what `CacheController.lease` raises; that says nothing about the version."""


class EnginePromotion:
    """Implements `registry.promotion.ServingEngine`.

    `unavailable` returns why no request can be served now, or None.
    """

    def __init__(
        self,
        controller: CacheController,
        unavailable: Callable[[], EngineUnavailable | None],
        probe: Probe,
    ) -> None:
        self._controller = controller
        self._unavailable = unavailable
        self._probe = probe
        self._evictions: dict[VersionId, asyncio.Task[None]] = {}

    async def warm(self, version: ResolvedVersion, old: Sequence[ResolvedVersion]) -> None:
        wanted = for_engine(version)
        if (leaving := self._evictions.pop(wanted.id, None)) is not None:
            leaving.cancel()  # it is promoted again before its last request has ended
        with self._translate_errors():
            await self._controller.load_into_host(wanted)
            in_slots = {resident.version.id for resident in self._controller.snapshot().gpu}
            if any(for_engine(each).id in in_slots for each in old):
                await self._controller.load_into_idle_slot(wanted)

    async def probe(self, version: ResolvedVersion) -> None:
        wanted = for_engine(version)
        with self._translate_errors():
            outcome = await self._probe.run(wanted)
        if outcome.failure is not None:
            raise ProbeFailed(wanted.reference, outcome.failure)

    def evict_when_idle(self, version: ResolvedVersion) -> None:
        old = for_engine(version)
        if old.id not in self._evictions:
            task = self._evictions[old.id] = asyncio.create_task(self._evict(old))
            task.add_done_callback(lambda _: self._forget(old.id, task))

    async def _evict(self, version: AdapterVersion) -> None:
        """Not `evict(wait=True)`, which would block new requests for it until it was evicted."""
        while not self._controller.is_pinned(version.id):
            try:
                await self._controller.evict(version)
            except AdapterInUse:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    def _forget(self, version: VersionId, task: asyncio.Task[None]) -> None:
        if self._evictions.get(version) is task:
            del self._evictions[version]

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise the engine's errors as the registry's, which does not know the engine."""
        if (why := self._unavailable()) is not None:
            raise _engine_away(why)
        try:
            yield
        except EngineUnavailable as error:
            raise _engine_away(error) from error
        except AdapterLoadFailed as error:
            damaged = error.failure is LoadFailure.FILES
            raise WarmingFailed(
                error.detail, for_good=damaged, retry_after_seconds=error.retry_after_seconds
            ) from error
        except EngineError as error:
            raise WarmingFailed(error.detail) from error


def _engine_away(why: EngineUnavailable) -> EngineAway:
    return EngineAway(f"{why.detail}: no alias was moved; `warm` false moves it anyway")
