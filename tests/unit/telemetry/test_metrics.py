"""Metrics, compared with counts by hand."""

import asyncio
from dataclasses import replace

from prometheus_client import CollectorRegistry

from engine.cache.snapshot import take_snapshot
from engine.cache.state import CacheState, PendingRequest
from engine.errors import AdapterLoadFailed, AdapterTooLarge, EngineUnavailable
from engine.events import Drifted, Evicted, FellBack, LoadFailed, LookedUp, MovedIn
from engine.policy.policy import CachePolicy
from engine.telemetry.metrics import CacheMetrics
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    EvictionReason,
    LoadFailure,
    MissCause,
    Tier,
    Transition,
    VersionId,
)
from registry.telemetry.label_limit import OTHER_ADAPTERS

VERSION = AdapterVersion(VersionId(1), "a", 1, "0" * 64, "/a", 8, 100)


def cache_state() -> CacheState:
    """Of the only version, for which a request has waited 1.5 seconds."""
    state = CacheState(lambda: 10.0)
    granted = asyncio.get_running_loop().create_future()
    request = PendingRequest(VERSION, granted, arrived=8.5, cause=MissCause.COLD, counted=True)
    state.add_request(1, request)
    return state


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_lookups_count_per_tier_and_misses_per_cause() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)
    for outcome in (CacheOutcome.GPU_HIT, CacheOutcome.HOST_HIT, CacheOutcome.HOST_HIT):
        metrics.on_event(LookedUp(VERSION, outcome, None, 0.001))
    metrics.on_event(LookedUp(VERSION, CacheOutcome.MISS, MissCause.EVICTED, 0.5))
    lookups = "adaptry_cache_lookups_total"
    assert value(registry, lookups, tier="gpu", result="hit") == 1
    assert value(registry, lookups, tier="gpu", result="miss") == 3
    assert value(registry, lookups, tier="host", result="hit") == 2
    assert value(registry, lookups, tier="host", result="miss") == 1
    assert value(registry, "adaptry_cache_misses_total", cause="evicted") == 1
    assert value(registry, "adaptry_cache_misses_total", cause="cold") == 0
    assert value(registry, "adaptry_slot_wait_seconds_count") == 4
    assert value(registry, "adaptry_slot_wait_seconds_sum") == 0.503


def test_moves_and_failures_and_drift() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)
    metrics.on_event(Evicted(VERSION, Tier.GPU, EvictionReason.HOST_EVICTED, 1.0))
    metrics.on_event(MovedIn(VERSION, Transition.DISK_TO_HOST, 0.25))
    metrics.on_event(LoadFailed(VERSION, Transition.HOST_TO_GPU, EngineUnavailable("gone")))
    missing = AdapterLoadFailed("a:1", "gone", LoadFailure.FILES)
    for error in (missing, missing, AdapterTooLarge(3, 1, 2)):
        metrics.on_event(LoadFailed(VERSION, Transition.DISK_TO_HOST, error))
    metrics.on_event(FellBack(VERSION))
    metrics.on_event(Drifted([VersionId(1), VersionId(2)], [VERSION]))
    evictions = "adaptry_cache_evictions_total"
    assert value(registry, evictions, tier="gpu", reason="host_evicted") == 1
    assert value(registry, evictions, tier="gpu", reason="capacity") == 0
    loads = "adaptry_load_seconds"
    assert value(registry, f"{loads}_sum", transition="disk_to_host") == 0.25
    assert value(registry, f"{loads}_count", transition="host_to_gpu") == 0
    failures = "adaptry_load_failures_total"
    assert value(registry, failures, transition="host_to_gpu", cause="engine") == 1
    assert value(registry, failures, transition="disk_to_host", cause="files") == 2
    assert value(registry, failures, transition="disk_to_host", cause="too_large") == 1
    assert value(registry, failures, transition="disk_to_host", cause="io") == 0
    assert value(registry, "adaptry_fallback_loads_total") == 1
    assert value(registry, "adaptry_drift_total") == 2


def test_adapter_labels_are_capped() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry, max_adapter_labels=2)
    for name in ("a", "b", "c", "d", "a"):
        metrics.count_request(name, "completed", 0.2)
    requests = "adaptry_requests_total"
    assert value(registry, requests, adapter="a", outcome="completed") == 2
    assert value(registry, requests, adapter=OTHER_ADAPTERS, outcome="completed") == 2
    assert value(registry, requests, adapter="c", outcome="completed") is None


async def test_gauges_show_the_cache_at_the_scrape() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)
    policy = CachePolicy(slots=2, host_capacity=3)
    state = cache_state()
    metrics.watch(lambda: take_snapshot(policy, state), lambda: 7)
    assert value(registry, "adaptry_slots", state="free") == 2
    policy.pin(VERSION.id, Tier.GPU)
    policy.arrive(1, VERSION.id)
    policy.advance()
    assert value(registry, "adaptry_queue_depth") == 1
    policy.on_loaded(VERSION.id, 100)
    policy.advance()
    policy.on_moved(VERSION.id)
    policy.advance()
    policy.on_moved(VERSION.id)
    policy.advance()
    assert value(registry, "adaptry_slots", state="free") == 1
    assert value(registry, "adaptry_slots", state="leased") == 1
    assert value(registry, "adaptry_resident", tier="host") == 1
    assert value(registry, "adaptry_host_bytes") == 100
    assert value(registry, "adaptry_pins", tier="gpu") == 1
    assert value(registry, "adaptry_leases") == 1
    assert value(registry, "adaptry_queue_depth") == 0
    assert value(registry, "adaptry_in_step_loads_total") == 7
    policy.release(VERSION.id)
    assert value(registry, "adaptry_slots", state="pinned") == 1


def test_ten_thousand_adapters_have_as_many_series_as_the_labels_allow() -> None:
    """Each is requested, missed, loaded, served, and evicted."""

    def series(adapters: int) -> int:
        registry = CollectorRegistry()
        metrics = CacheMetrics(registry)
        for number in range(adapters):
            version = replace(VERSION, id=VersionId(number), adapter=f"adapter-{number}")
            metrics.on_event(LookedUp(version, CacheOutcome.MISS, MissCause.COLD, 0.1))
            metrics.count_tokens(version.adapter, 10, 20)
            metrics.observe_first_token(CacheOutcome.MISS, 0.5)
            metrics.count_request(version.adapter, "completed", 1.0)
            metrics.on_event(Evicted(version, Tier.HOST, EvictionReason.CAPACITY, 1.0))
        assert value(registry, "adaptry_cache_misses_total", cause="cold") == adapters
        of_adapters = [
            sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "adaptry_tokens_total" and sample.labels["kind"] == "prompt"
        ]
        assert sum(of_adapters) == 10 * adapters, "what has no label is counted as others"
        return sum(len(family.samples) for family in registry.collect())

    assert series(100) == series(10_000) < 4_000
    assert series(50) < series(100)
