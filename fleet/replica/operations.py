"""Operations that an ingress calls on a replica, besides forwarded requests."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from engine.cache.snapshot import CacheSnapshot
from engine.operations.probe import ProbeResult
from engine.ports import EngineState
from engine.telemetry.decision_log import LoggedEvent
from engine.telemetry.endpoint import encode, named_series
from engine.types import AdapterVersion, Tier, VersionId
from fleet.messages import EngineFacts, Failure, Report, WantedPin
from fleet.replica.pin_holder import PinHolder
from fleet.replica.server import ReplicaServer
from registry.cache_history import HistoryRow
from registry.catalog.types import ResolvedVersion
from registry.errors import RegistryError

logger = logging.getLogger(__name__)

_MOST_DECISIONS = 4096
TAKES_LONG = frozenset(
    {
        *("places", "prefetch", "load_into_host", "evict", "pin", "hold_pins", "warm", "probe"),
        *("probe_result", "bring_back", "engine_state"),
    }
)
"""Operations that read files, or wait for the engine: all others answer immediately."""


class Operations:
    """Called by name. Each may raise the engine's and the registry's errors."""

    def __init__(self, name: str, server: ReplicaServer, facts: EngineFacts) -> None:
        self._name = name
        self._facts = facts
        self._promotion = server.promotion
        self._probe = server.probe
        self._server = server
        self._cache = server.cache
        self._holder = PinHolder(server.cache.pins, server.check_base)
        self._freeze_metrics = server.freeze_metrics
        self._registry = server.metrics_registry
        self._recorder = server.recorder

    async def facts(self) -> EngineFacts:
        return self._facts

    async def places(self, tensors: Sequence[str]) -> Sequence[str | None]:
        """See `ReplicaServer.places`."""
        return await self._server.places(tensors)

    # ---- views ---------------------------------------------------------------------------

    async def snapshot(self) -> CacheSnapshot:
        return self._cache.controller.snapshot()

    async def serves(self) -> bool:
        """Whether its engine is up: else requests go elsewhere."""
        return self._cache.controller.unavailable is None

    async def engine_state(self) -> EngineState:
        return await self._cache.controller.reconcile()

    async def about(self, version: AdapterVersion) -> Sequence[LoggedEvent]:
        return self._cache.log.about(version.id)

    async def report(self, after: Mapping[str, int]) -> Report:
        """`after`: by replica name, the last decision that the ingress has."""
        log = self._cache.log
        found = log.after(after.get(self._name, 0), _MOST_DECISIONS)
        newest = found[-1].id if len(found) == _MOST_DECISIONS else log.newest_id
        return Report(self._cache.controller.snapshot(), tuple(found), newest)

    async def scrape(self, opened: bool, names: frozenset[str]) -> str:
        """`opened`: in OpenMetrics, else in Prometheus' text format. `names`: all if empty."""
        wanted = named_series(self._registry, names)
        with self._freeze_metrics():
            content = await asyncio.to_thread(encode, wanted, opened, compressed=False)
        return content.decode()

    async def uses(self, version: VersionId) -> bool:
        return self._cache.controller.uses(version)

    async def holds_response(self, tenant: str | None, response_id: str) -> bool:
        """See `ReplicaServer.holds_response`."""
        return self._server.holds_response(tenant, response_id)

    async def records_history(self) -> bool:
        return self._recorder is not None

    async def unsaved_history(self) -> Sequence[HistoryRow]:
        if self._recorder is None:
            return ()
        return await self._recorder.unsaved_rows(self._recorder.store.server)

    # ---- control -------------------------------------------------------------------------

    async def prefetch(self, version: AdapterVersion) -> None:
        await self._server.check_base(version.reference)
        self._cache.controller.prefetch(version)

    async def load_into_host(self, version: AdapterVersion) -> None:
        """Returns once it is there."""
        await self._server.check_base(version.reference)
        await self._cache.controller.load_into_host(version)

    async def bring_back(self, versions: Sequence[AdapterVersion]) -> None:
        """See `WarmUp.bring_back`."""
        self._cache.warm_up.prefetch_missing([v for v in versions if await self._is_ours(v)])

    async def _is_ours(self, version: AdapterVersion) -> bool:
        try:
            await self._server.check_base(version.reference)
        except RegistryError as error:
            logger.warning("%s is not brought back: %s", version.reference, error.detail)
            return False
        return True

    async def evict(self, version: AdapterVersion, wait: bool, force: bool) -> bool:
        return await self._cache.controller.evict(version, wait=wait, force=force)

    async def pin(self, version: AdapterVersion, tier: Tier) -> None:
        await self._holder.pin(version, tier)

    async def hold_pins(
        self, wanted: Sequence[WantedPin], changing: frozenset[VersionId]
    ) -> Mapping[str, Failure]:
        """See `PinHolder.hold`."""
        return await self._holder.hold(wanted, changing)

    # ---- promotion -----------------------------------------------------------------------

    async def warm(self, version: ResolvedVersion, old: Sequence[ResolvedVersion]) -> None:
        await self._server.check_base(version.reference)
        await self._promotion.warm(version, old)

    async def probe(self, version: ResolvedVersion) -> None:
        await self._server.check_base(version.reference)
        await self._promotion.probe(version)

    async def probe_result(self, version: AdapterVersion) -> ProbeResult:
        await self._server.check_base(version.reference)
        return await self._probe.run(version)

    async def evict_when_idle(self, version: ResolvedVersion) -> None:
        self._promotion.evict_when_idle(version)
