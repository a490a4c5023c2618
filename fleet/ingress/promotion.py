"""Promotion across replicas: implements `registry.aliases.promotion.ServingEngine`."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from engine.cache.snapshot import CacheSnapshot
from engine.errors import EngineError
from engine.operations.probe import ProbeResult
from engine.types import AdapterVersion, VersionId
from fleet.ingress.recent_residency import RecentResidency
from fleet.ingress.serving_replicas import serving_ranks
from fleet.messages import ReplicaResults, max_ranks
from fleet.placement import first_for
from fleet.ports import Replicas
from registry.catalog.types import ResolvedVersion
from registry.errors import EngineAway

logger = logging.getLogger(__name__)


class FleetPromotion:
    """Warms the new version on replicas that hold an old one, else where requests will go.

    Never on one that doesn't serve its rank: a new version may have a larger one.
    """

    def __init__(self, replicas: Replicas, recent: RecentResidency) -> None:
        self._replicas = replicas
        self._recent = recent
        self._background: set[asyncio.Task[None]] = set()

    async def warm(self, version: ResolvedVersion, old: Sequence[ResolvedVersion]) -> None:
        """Raises EngineAway, WarmingFailed."""
        chosen = await self._replicas_with(version, old)
        (await self._call("warm", version, old, only=chosen)).check()
        self._recent.record(VersionId(version.version_id), chosen)

    async def probe(self, version: ResolvedVersion) -> None:
        """Probe on one warm replica. Raises ProbeFailed, EngineAway, WarmingFailed."""
        warm = await self._replicas_with(version, [version])
        only = frozenset(sorted(warm)[:1])
        (await self._call("probe", version, only=only)).check()

    def evict_when_idle(self, version: ResolvedVersion) -> None:
        task = asyncio.create_task(self._evict_when_idle(version))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _evict_when_idle(self, version: ResolvedVersion) -> None:
        try:
            await self._replicas.call("evict_when_idle", version)
        except EngineError as error:
            logger.warning("an old version stays in memory: %s", error.detail)

    async def _replicas_with(
        self, version: ResolvedVersion, wanted: Sequence[ResolvedVersion]
    ) -> frozenset[str]:
        snapshots, facts = await asyncio.gather(self._snapshots(), self._call("facts"))
        limits = max_ranks(facts.values)
        first = partial(
            first_for,
            f"{version.adapter}:{version.number}",
            snapshots,
            rank=version.rank,
            max_ranks=limits,
        )
        ids = {each.version_id for each in wanted}
        found = frozenset(name for name, each in snapshots.items() if _holds(each, ids))
        return found & first(None) or first(1)

    async def _snapshots(self) -> Mapping[str, CacheSnapshot]:
        """Of replicas whose engine is up. Raises EngineAway."""
        found: Mapping[str, CacheSnapshot] = (await self._call("snapshot")).values
        if not (up := {name: each for name, each in found.items() if each.engine_up}):
            raise EngineAway("no replica has an engine now: no alias was moved")
        return up

    async def _call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        try:
            return await self._replicas.call(operation, *arguments, only=only)
        except EngineError as error:
            raise EngineAway(f"{error.detail}: no alias was moved") from error


class FleetProbe:
    """Runs a probe on one replica."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def run(self, version: AdapterVersion) -> ProbeResult:
        """Raises what `engine.operations.probe.Probe.run` raises."""
        limits = await serving_ranks(self._replicas, version.rank)
        only = first_for(version.reference, limits, 1, rank=version.rank, max_ranks=limits)
        (result,) = (await self._replicas.call("probe_result", version, only=only)).all().values()
        assert isinstance(result, ProbeResult)
        return result


def _holds(snapshot: CacheSnapshot, ids: set[int]) -> bool:
    return any(resident.version.id in ids for resident in snapshot.host)
