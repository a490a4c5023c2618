"""docs/metrics.md, the code, the dashboards and the alerts know the same series."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from engine.cache.snapshot import CacheSnapshot, ResidentAdapter
from engine.events import Evicted, LookedUp
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.request_counters import REFUSAL_CODES
from engine.telemetry.shadows import Shadows
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    EvictionPolicy,
    EvictionReason,
    MissCause,
    Tier,
    VersionId,
)
from guest.metrics import GuestMetrics
from registry.auth.rate_limits import RateLimits
from registry.database.engine import Database
from registry.errors.access import Limit
from registry.ingest.outcome import IngestOutcome
from registry.models import Version, VersionState
from registry.models.job import JobState
from registry.rates.windows import RateWindows
from registry.telemetry.counts import AliasTarget, Backlog, Inventory
from registry.telemetry.gauges import Counts, RegistryGauges
from registry.telemetry.metrics import RegistryMetrics
from registry.telemetry.rate_gauges import RateGauges
from tests.support.docs.metrics_page import PAGE, RECORDED, ROOT, TYPES, exported, listed, names_in

LISTED = {series.name: series for series in listed()}
UPPER = AdapterVersion(VersionId(1), "upper", 1, "0" * 64, "/upper", 8, 100)


def resident(version_id: int, pinned: Tier | None) -> ResidentAdapter:
    version = AdapterVersion(VersionId(version_id), "upper", version_id, "0" * 64, "/", 8, 100)
    return ResidentAdapter(version, 100, 0, 0, pinned, 0, None, 0.0, leaving=False)


def cache() -> CacheSnapshot:
    in_slot, in_host = resident(1, Tier.GPU), resident(2, None)
    return CacheSnapshot(
        slots=2,
        host_capacity=4,
        host_bytes_limit=None,
        gpu=(in_slot,),
        host=(in_slot, in_host),
        loading=(),
        waiting=0,
        pinned=dict.fromkeys(Tier, 0),
    )


def quarantined_version() -> Version:
    return Version(
        adapter_id=1,
        number=1,
        digest="0" * 64,
        state=VersionState.QUARANTINED,
        state_code="not_lora",
        rank=8,
        alpha=8.0,
        target_modules=[],
        dtype="float32",
        size_bytes=1,
        source="/a",
        peft_config={},
        created_by="test",
    )


@pytest.fixture(scope="module")
def collectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CollectorRegistry]:
    """All that a server can export, each series at least once."""
    collectors = CollectorRegistry()
    engine = CacheMetrics(collectors)
    lru = EvictionPolicy.LRU
    shadows = Shadows(slots=2, host_capacity=4, policy=lru, candidate=lru)
    shadows.on_event(LookedUp(UPPER, CacheOutcome.GPU_HIT, None, 0.0))
    engine.watch(cache, in_step_loads=lambda: 0, shadows=shadows)
    engine.set_build_info("1", "0.32")
    engine.count_request("upper", "completed", 0.1)
    engine.count_refusal("queue_full")
    engine.on_event(LookedUp(UPPER, CacheOutcome.MISS, MissCause.COLD, 0.1))
    engine.on_event(Evicted(UPPER, Tier.HOST, EvictionReason.CAPACITY, 1.0))
    registry = RegistryMetrics(collectors)
    registry.on_ingest_outcome(IngestOutcome(JobState.FAILED, 1.0, 10, "not_lora"))
    registry.on_commit([quarantined_version()])
    registry.on_tenant_refusal("acme", Limit.SLOTS)
    RateGauges(RateWindows(), lambda: [("acme", RateLimits(1, 1, 1))], 10, collectors)
    GuestMetrics(collectors)
    folder = tmp_path_factory.mktemp("registry")
    database = Database(f"sqlite:///{folder}/registry.db")
    state = RegistryGauges(database, engine.labels, collectors)
    stock, waiting = Inventory(1, {"ready": 1}, 100), Backlog({}, None, None, 0)
    state._counts = Counts(stock, waiting, [AliasTarget("upper", "default", 1)])
    yield collectors
    asyncio.run(database.close())


def test_the_page_lists_what_is_exported(collectors: CollectorRegistry) -> None:
    found = exported(collectors.collect())
    assert found.keys() == LISTED.keys()
    for name, (kind, values) in found.items():
        assert kind == LISTED[name].type, name
        assert values.keys() == LISTED[name].labels.keys(), name


def test_closed_sets_of_label_values_are_complete(collectors: CollectorRegistry) -> None:
    """From the start, except the two info series."""
    for name, (_, found) in exported(collectors.collect()).items():
        for label, values in LISTED[name].labels.items():
            if values:
                assert found[label] == values, (name, label)


def test_each_row_is_whole() -> None:
    assert len(LISTED) == len(listed()), "each is there once"
    for series in LISTED.values():
        assert series.type in TYPES, series.name
        assert series.name.endswith("_total") == (series.type == "counter"), series.name
        assert series.meaning.endswith("."), series.name
        assert series.unit, series.name
        for unit in ("seconds", "bytes", "ratio"):
            assert (f"_{unit}" in series.name) == (series.unit == unit), series.name


def test_codes_are_a_closed_set() -> None:
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", code) for code in REFUSAL_CODES)
    assert {"queue_full", "unknown_adapter", "version_retired", "body_too_large"} <= REFUSAL_CODES


def test_the_page_speaks_of_nothing_else() -> None:
    assert names_in(PAGE) <= LISTED.keys()


def _files(*patterns: str) -> list[Path]:
    found = [path for pattern in patterns for path in sorted((ROOT / "grafana").glob(pattern))]
    assert found, patterns
    return found


@pytest.mark.parametrize(
    "path", _files("dashboards/*.json", "rules/*.yml"), ids=lambda path: str(path.name)
)
def test_dashboards_and_rules_name_only_what_is_listed(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\n", " ")  # line ends within JSON
    assert names_in(text), "it asks for no series of ours"
    assert names_in(text) <= LISTED.keys()
    assert set(RECORDED.findall(text)) <= set(RECORDED.findall(PAGE))


def test_every_series_is_on_a_dashboard() -> None:
    shown = (path.read_text(encoding="utf-8") for path in _files("dashboards/*.json"))
    assert LISTED.keys() == {name for text in shown for name in names_in(text)}


def test_the_page_lists_what_the_rules_record() -> None:
    rules = (ROOT / "grafana" / "rules" / "recording.yml").read_text(encoding="utf-8")
    recorded = re.findall(r"record: (\S+)", rules)
    assert sorted(recorded) == sorted(set(RECORDED.findall(PAGE)))
