"""What a promotion asks of the engine: the registry's port, fulfilled by the cache controller."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from engine.controller import CacheController
from engine.errors import AdapterLoadFailed, EngineError, EngineUnavailable
from engine.resolver import for_engine
from engine.types import AdapterVersion
from registry.errors import EngineAway, ProbeFailed, ProbeUnavailable, WarmingFailed
from registry.values import ResolvedVersion

logger = logging.getLogger(__name__)


class ProbeOutcome(Protocol):
    @property
    def failure(self) -> str | None:
        """A stable code; None if the version has passed."""


class Probe(Protocol):
    """Generates with a version, under a lease as any request does."""

    async def run(self, version: AdapterVersion) -> ProbeOutcome:
        """Raises what `CacheController.lease` raises; that says nothing about the version."""


class PromotingEngine:
    """Implements `registry.promotion.ServingEngine`.

    `unavailable` says why nobody can be served now, if that is so.
    """

    def __init__(
        self,
        controller: CacheController,
        unavailable: Callable[[], EngineUnavailable | None],
        probe: Probe | None = None,
    ) -> None:
        self._controller = controller
        self._unavailable = unavailable
        self._probe = probe
        self._evictions: set[asyncio.Task[None]] = set()

    async def warm(self, version: ResolvedVersion, old: Sequence[ResolvedVersion]) -> None:
        wanted = for_engine(version)
        with self._translated():
            await self._controller.bring_to_host(wanted)
            in_slots = {resident.version.id for resident in self._controller.snapshot().gpu}
            if any(for_engine(each).id in in_slots for each in old):
                await self._controller.bring_to_idle_slot(wanted)

    async def probe(self, version: ResolvedVersion) -> None:
        if self._probe is None:
            raise ProbeUnavailable
        wanted = for_engine(version)
        with self._translated():
            outcome = await self._probe.run(wanted)
        if outcome.failure is not None:
            raise ProbeFailed(wanted.reference, outcome.failure)

    def evict_when_idle(self, version: ResolvedVersion) -> None:
        task = asyncio.create_task(self._evict(for_engine(version)))
        self._evictions.add(task)
        task.add_done_callback(self._evictions.discard)

    async def _evict(self, version: AdapterVersion) -> None:
        try:
            await self._controller.evict(version, wait=True)
        except EngineError as error:
            logger.info("%s stays in memory: %s", version.reference, error.detail)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The engine's errors as the registry's, which knows no engine."""
        if (why := self._unavailable()) is not None:
            raise _away(why)
        try:
            yield
        except EngineUnavailable as error:
            raise _away(error) from error
        except AdapterLoadFailed as error:
            raise WarmingFailed(error.detail, for_good=error.failure.condemns) from error
        except EngineError as error:
            raise WarmingFailed(error.detail) from error


def _away(why: EngineUnavailable) -> EngineAway:
    return EngineAway(f"{why.detail}: no alias was moved, but `warm` false moves it all the same")
