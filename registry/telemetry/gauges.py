"""Gauges of the registry, updated in the background: a scrape never waits for the database."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.models import VersionState, now
from registry.models.job import UNFINISHED
from registry.telemetry.counts import AliasTarget, Backlog, CountRepository, Inventory
from registry.telemetry.label_limit import LabelLimit

logger = logging.getLogger(__name__)

MAX_ALIASES = 1000  # series; an adapter may have any number of aliases
_EVERY_SECONDS = 5.0
_INVENTORY_SECONDS = 60.0  # maximum age: another server may have changed something
_IDLE_FACTOR = 10  # pause between counts, in multiples of a count's duration


@dataclass(frozen=True, slots=True)
class Counts:
    """Result of the last count."""

    inventory: Inventory
    backlog: Backlog
    aliases: list[AliasTarget]


class RegistryGauges(Collector):
    """`run` needs its own task. Before the first count only `adaptry_database_up` is exported."""

    def __init__(
        self,
        database: Database,
        labels: LabelLimit,
        registry: CollectorRegistry = REGISTRY,
        *,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._database = database
        self._labels = labels
        self._registry = registry
        self._every_seconds = every_seconds
        self._up = True  # its schema was just upgraded
        self._counts: Counts | None = None
        self._inventory_of = (-1, 0.0)
        self._named: frozenset[str] = frozenset()  # of which the aliases were read
        self._commits = database.seen_commits()
        registry.register(self)

    def close(self) -> None:
        self._registry.unregister(self)

    async def run(self) -> None:
        """Run until cancelled. The longer a count takes, the less often it runs."""
        while True:
            began = time.monotonic()
            await self.look()
            took = time.monotonic() - began
            await asyncio.sleep(max(self._every_seconds, _IDLE_FACTOR * took))

    async def look(self) -> None:
        """Count once, if anything may have changed. During an outage the previous counts stay."""
        try:
            await self._database.ping()  # a deleted file of SQLite can still be counted
            unseen = self._commits.unseen()
            if unseen is not None or not self._hold_without_commits():
                self._counts = await self._count()
            if unseen is not None:
                self._commits.record(unseen)
            self._up = True
        except DatabaseUnavailable:
            self._up = False
        except Exception:  # must not stop the server
            logger.exception("the registry could not be counted")

    def _hold_without_commits(self) -> bool:
        """A job between two attempts waits again once its time has come."""
        if self._counts is None or self._counts.backlog.jobs:
            return False
        return self._has_inventory() and self._named == self._labels.named

    async def _count(self) -> Counts:
        self._named = self._labels.named
        async with self._database.read_session() as session:
            repository = CountRepository(session)
            backlog = await repository.backlog()
            aliases = await repository.aliases(self._named, MAX_ALIASES)
            inventory = await self._inventory(repository)
        return Counts(inventory, backlog, aliases)

    async def _inventory(self, repository: CountRepository) -> Inventory:
        if self._counts is not None and self._has_inventory():
            return self._counts.inventory
        began_at = self._database.change_count, time.monotonic()
        inventory = await repository.inventory()
        self._inventory_of = began_at
        return inventory

    def _has_inventory(self) -> bool:
        """Of this process's last change, and not too old."""
        change, counted_at = self._inventory_of
        is_fresh = time.monotonic() - counted_at < _INVENTORY_SECONDS
        return is_fresh and change == self._database.change_count

    # ---- Collector -----------------------------------------------------------------------

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        yield _gauge("adaptry_database_up", "1 if the database answered the last query.", self._up)
        if self._counts is not None:
            yield from _inventory_metrics(self._counts.inventory)
            yield from _backlog_metrics(self._counts.backlog)
            yield _alias_metrics(self._counts.aliases)


def _inventory_metrics(inventory: Inventory) -> Iterable[Metric]:
    yield _gauge("adaptry_registry_adapters", "Adapters in the registry.", inventory.adapters)
    versions = GaugeMetricFamily(
        "adaptry_registry_versions", "Versions in the registry, by state.", labels=["state"]
    )
    for state in VersionState:
        versions.add_metric([state], inventory.versions.get(state, 0))
    yield versions
    text = "Size of the files of all versions that are not purged, each content once."
    yield _gauge("adaptry_store_bytes", text, inventory.store_bytes)


def _backlog_metrics(backlog: Backlog) -> Iterable[Metric]:
    jobs = GaugeMetricFamily(
        "adaptry_ingest_jobs", "Jobs that have not ended, by state.", labels=["state"]
    )
    for state in sorted(UNFINISHED):
        jobs.add_metric([state], backlog.jobs.get(state, 0))
    yield jobs
    text = "Age of the oldest job that has not ended; 0 if there is none."
    yield _gauge("adaptry_ingest_oldest_seconds", text, _age_seconds(backlog.oldest_job))
    text = "How long the queued job that waits longest has waited; 0 if none does."
    yield _gauge("adaptry_ingest_wait_seconds", text, _age_seconds(backlog.oldest_waiting))
    text = "Messages of webhooks that are still to be delivered."
    yield _gauge("adaptry_webhook_backlog", text, backlog.webhooks)


def _age_seconds(since: datetime | None) -> float:
    return 0.0 if since is None else max((now() - since).total_seconds(), 0.0)


def _alias_metrics(aliases: Iterable[AliasTarget]) -> Metric:
    family = GaugeMetricFamily(
        "adaptry_alias_version",
        "Number of the version that an alias points at; the main one, if it is split.",
        labels=["adapter", "alias"],
    )
    for target in aliases:
        family.add_metric([target.adapter, target.alias], target.version)
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
