"""The registry's gauges, counted in the background: a scrape never waits for the database."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.models import VersionState, now
from registry.models.job import UNFINISHED
from registry.telemetry.counts import AliasTarget, CountRepository, Stock, Waiting
from registry.telemetry.label_limit import AdapterLabels

logger = logging.getLogger(__name__)

MAX_ALIASES = 1000  # series; an adapter may have any number of aliases
_EVERY_SECONDS = 5.0
_STOCK_SECONDS = 60.0  # though nothing seems to have changed: another server may have
_LEISURE = 10  # times as long as the counting took is waited before the next


@dataclass(frozen=True, slots=True)
class Counted:
    """What the last look found."""

    stock: Stock
    waiting: Waiting
    aliases: list[AliasTarget]


class RegistryState(Collector):
    """`run` it in a task of its own. Before its first look only `adaptry_database_up` is there."""

    def __init__(
        self,
        database: Database,
        labels: AdapterLabels,
        registry: CollectorRegistry = REGISTRY,
        *,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._database = database
        self._labels = labels
        self._registry = registry
        self._every_seconds = every_seconds
        self._up = True  # its tables were brought up to date a moment ago
        self._counted: Counted | None = None
        self._stock_of = (-1, 0.0)
        registry.register(self)

    def close(self) -> None:
        self._registry.unregister(self)

    async def run(self) -> None:
        """Until cancelled. The more there is to count, the less often it is counted."""
        while True:
            began = time.monotonic()
            await self.look()
            took = time.monotonic() - began
            await asyncio.sleep(max(self._every_seconds, _LEISURE * took))

    async def look(self) -> None:
        """Count once. While the database is away, what was counted before stays."""
        try:
            self._counted = await self._count()
            self._up = True
        except DatabaseUnavailable:
            self._up = False
        except Exception:  # no reason to stop a server
            logger.exception("the registry could not be counted")

    async def _count(self) -> Counted:
        async with self._database.read_session() as session:
            repository = CountRepository(session)
            waiting = await repository.waiting()
            aliases = await repository.aliases(self._labels.named, MAX_ALIASES)
            stock = await self._stock(repository)
        return Counted(stock, waiting, aliases)

    async def _stock(self, repository: CountRepository) -> Stock:
        generation, counted_at = self._stock_of
        fresh = time.monotonic() - counted_at < _STOCK_SECONDS
        if self._counted is not None and fresh and generation == self._database.change_count:
            return self._counted.stock
        began_at = self._database.change_count, time.monotonic()
        stock = await repository.stock()
        self._stock_of = began_at
        return stock

    # ---- Collector -----------------------------------------------------------------------

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        yield _one("adaptry_database_up", "1 if the database answered when last asked.", self._up)
        if self._counted is not None:
            yield from _of_stock(self._counted.stock)
            yield from _of_waiting(self._counted.waiting)
            yield _of_aliases(self._counted.aliases)


def _of_stock(stock: Stock) -> Iterable[Metric]:
    yield _one("adaptry_registry_adapters", "Adapters in the registry.", stock.adapters)
    versions = GaugeMetricFamily(
        "adaptry_registry_versions", "Versions in the registry, by state.", labels=["state"]
    )
    for state in VersionState:
        versions.add_metric([state], stock.versions.get(state, 0))
    yield versions
    text = "Size of the files of all versions that are not purged, each content once."
    yield _one("adaptry_store_bytes", text, stock.store_bytes)


def _of_waiting(waiting: Waiting) -> Iterable[Metric]:
    jobs = GaugeMetricFamily(
        "adaptry_ingest_jobs", "Jobs that have not ended, by state.", labels=["state"]
    )
    for state in sorted(UNFINISHED):
        jobs.add_metric([state], waiting.jobs.get(state, 0))
    yield jobs
    oldest = waiting.oldest_job
    age_seconds = 0.0 if oldest is None else max((now() - oldest).total_seconds(), 0.0)
    text = "Age of the oldest job that has not ended; 0 if there is none."
    yield _one("adaptry_ingest_oldest_seconds", text, age_seconds)
    text = "Messages of webhooks that are still to be delivered."
    yield _one("adaptry_webhook_backlog", text, waiting.webhooks)


def _of_aliases(aliases: Iterable[AliasTarget]) -> Metric:
    family = GaugeMetricFamily(
        "adaptry_alias_version",
        "Number of the version that an alias points at; the main one, if it is split.",
        labels=["adapter", "alias"],
    )
    for target in aliases:
        family.add_metric([target.adapter, target.alias], target.version)
    return family


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
