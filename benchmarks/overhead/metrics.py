"""Overhead of telemetry: series, scrapes, and CPU time per request.

    .venv/bin/python -m benchmarks.overhead.metrics

Everything is in one process. Requests go through the gateway and the cache controller over a fake
engine, which returns immediately, so that only our own code is measured. `--versions` fills a
registry with 100,000 versions first and times the counting in the background.
"""

import argparse
import asyncio
import gzip
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry, disable_created_metrics

from benchmarks.common.tables import machine, print_table
from benchmarks.overhead.metrics_requests import VERSION, Row, overhead
from benchmarks.registry.rows import open_filled
from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.events import Evicted, LookedUp
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.policy import CachePolicy
from engine.telemetry.endpoint import encode
from engine.telemetry.metrics import CacheMetrics
from engine.types import CacheOutcome, EvictionReason, MissCause, Tier, VersionId
from registry.telemetry.gauges import RegistryGauges
from registry.telemetry.label_limit import LabelLimit
from registry.telemetry.metrics import RegistryMetrics

ADAPTERS = 10_000
# ---- series and scrapes --------------------------------------------------------------------


def scrapes(labels: int) -> Iterator[Row]:
    """After 10,000 adapters were requested, missed, served and evicted again."""
    collectors = CollectorRegistry()
    metrics = CacheMetrics(collectors, max_adapter_labels=labels)
    RegistryMetrics(collectors)
    policy = CachePolicy(slots=8, host_capacity=64)
    backend = FakeBackend(slots=8, host_capacity=64)
    loader = Loader(backend, UncheckedFiles())
    controller = CacheController(policy, backend, loader, metrics)
    metrics.watch(controller.snapshot, lambda: 0)
    for number in range(ADAPTERS):
        version = replace(VERSION, id=VersionId(number + 1), adapter=f"team-bot-{number:05d}")
        metrics.on_event(LookedUp(version, CacheOutcome.MISS, MissCause.COLD, 0.1))
        metrics.count_request(version.adapter, "completed", 1.0)
        metrics.count_tokens(version.adapter, 10, 10)
        metrics.on_event(Evicted(version, Tier.HOST, EvictionReason.CAPACITY, 1.0))
    series = sum(len(family.samples) for family in collectors.collect())
    for opened in (False, True):
        text = encode(collectors, opened, False)
        yield {
            "labels": f"{labels:,}",
            "format": "OpenMetrics" if opened else "text",
            "series": f"{series:,}",
            "KiB": f"{len(text) / 1024:,.0f}",
            "KiB, gzip": f"{len(gzip.compress(text, 1)) / 1024:,.0f}",
            "CPU ms": f"{_median_ms(lambda: encode(collectors, opened, False)):.1f}",  # noqa: B023
        }


def _median_ms(work: Callable[[], object], rounds: int = 9) -> float:
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken) * 1000


# ---- the registry --------------------------------------------------------------------------


async def counting(folder: Path) -> Row:
    database = await open_filled(f"sqlite:///{folder}/registry.db")
    labels = LabelLimit(100)
    for number in range(100):
        labels.of(f"team{number % 20:02d}-bot-{number:05d}")
    state = RegistryGauges(database, labels, CollectorRegistry())
    whole: list[float] = []
    unchanged: list[float] = []
    for _ in range(5):
        database.notify_change()
        for taken in (whole, unchanged):
            began = time.perf_counter()
            await state.look()
            taken.append((time.perf_counter() - began) * 1000)
    await database.close()
    return {
        "versions": "100,000",
        "after a change, ms": f"{statistics.median(whole):.0f}",
        "unchanged, ms": f"{statistics.median(unchanged):.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--versions", action="store_true", help="also count 100,000 (minutes)")
    arguments = parser.parse_args()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs; as the server does
    print(machine())
    print_table([row for labels in (100, ADAPTERS) for row in scrapes(labels)])
    for tokens in (1, 100):
        print_table(asyncio.run(overhead(arguments.requests, arguments.rounds, tokens)))
    if arguments.versions:
        with tempfile.TemporaryDirectory() as folder:
            print_table([asyncio.run(counting(Path(folder)))])


if __name__ == "__main__":
    main()
