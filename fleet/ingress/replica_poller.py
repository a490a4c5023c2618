"""Replica poller: recent snapshots of all replicas, and one log of their decisions."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping

from engine.cache.snapshot import CacheSnapshot
from engine.cache.tenant_limits import TenantCacheUsage
from engine.errors import EngineError
from engine.telemetry.decision_log import DecisionLog
from fleet.messages import Report
from fleet.ports import Replicas
from registry.references import tenant_of

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_REMEMBERED = 256
"""Replicas whose place in their log is known: one that is started again has another name."""


class ReplicaPoller:
    """Adds the decisions of all replicas to `log`, ordered by time within a poll."""

    def __init__(self, replicas: Replicas, log: DecisionLog) -> None:
        self._replicas = replicas
        self._log = log
        self._newest: OrderedDict[str, int] = OrderedDict()
        self.snapshots: Mapping[str, CacheSnapshot] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.poll()
            except EngineError as error:
                self.snapshots = {}
                logger.debug("no replica reports: %s", error.detail)
            await asyncio.sleep(_POLL_SECONDS)

    async def poll(self) -> None:
        """Raises EngineUnavailable."""
        answers = await self._replicas.call("report", dict(self._newest))
        reports: Mapping[str, Report] = answers.values
        for name, report in reports.items():  # one that gives no answer now keeps its place
            self._newest[name] = report.newest_id
            self._newest.move_to_end(name)
        while len(self._newest) > max(_REMEMBERED, len(reports)):
            self._newest.popitem(last=False)
        self.snapshots = {name: report.snapshot for name, report in reports.items()}
        found = [(logged, name) for name, each in reports.items() for logged in each.decisions]
        for logged, name in sorted(found, key=lambda pair: pair[0].at):
            self._log.append_from_replica(logged, name)

    def usage(self, tenant: str) -> TenantCacheUsage:
        """What a tenant uses of all caches together."""
        own = [
            resident
            for snapshot in self.snapshots.values()
            for resident in snapshot.host
            if tenant_of(resident.version.adapter) == tenant
        ]
        return TenantCacheUsage(
            slots=sum(each.leases > 0 or each.waiting > 0 for each in own),
            host_bytes=sum(each.host_bytes for each in own),
            pins=sum(each.pinned is not None for each in own),
            waiting=sum(each.waiting for each in own),
        )
