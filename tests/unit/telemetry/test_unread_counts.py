"""Hits in a slot are counted in one dictionary until the metrics are read: no series lacks any."""

from prometheus_client import CollectorRegistry

from engine.events import CacheEvent, EngineReady, LoadFailed, LookedUp
from engine.ports import Observers
from engine.telemetry.metrics import CacheMetrics
from engine.types import AdapterVersion, CacheOutcome, VersionId

VERSION = AdapterVersion(VersionId(1), "a", 1, "0" * 64, "/a", 8, 100)


def test_every_series_has_the_hits_when_it_is_read() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry, model_name="base")
    for waited in (0.0, 0.0, 0.0, 0.2):
        metrics.on_event(LookedUp(VERSION, CacheOutcome.GPU_HIT, None, waited))
    base = {"model_name": "base", "engine": "0", "tier": "gpu"}
    for _ in range(2):  # reading counts nothing twice
        for name, labels, count in (
            ("adaptry_cache_lookups_total", {"tier": "gpu", "result": "hit"}, 4),
            ("adaptry_adapter_lookups_total", {"adapter": "a", "result": "gpu_hit"}, 4),
            ("adaptry_decisions_total", {"kind": "looked_up"}, 4),
            ("adaptry_slot_wait_seconds_count", {}, 4),
            ("adaptry_slot_wait_seconds_bucket", {"le": "0.001"}, 3),
            ("adaptry_slot_wait_seconds_sum", {}, 0.2),
            ("vllm:lora_cache_lookups_total", base, 4),
            ("vllm:lora_cache_hits_total", base, 4),
        ):
            assert registry.get_sample_value(name, labels) == count, name
    metrics.close()


class OfEngines:
    observed: frozenset[type[CacheEvent]] = frozenset({EngineReady})

    def __init__(self) -> None:
        self.seen: list[CacheEvent] = []

    def on_event(self, event: CacheEvent) -> None:
        self.seen.append(event)


class OfAll(OfEngines):
    observed = frozenset({EngineReady, LookedUp, LoadFailed})


def test_an_observer_gets_the_kinds_that_it_says_it_needs() -> None:
    engines, everything = OfEngines(), OfAll()
    observers = Observers(engines, Observers(everything))
    looked_up = LookedUp(VERSION, CacheOutcome.MISS, None, 0.0)
    for event in (looked_up, EngineReady(), looked_up):
        observers.on_event(event)
    assert engines.seen == [EngineReady()]
    assert everything.seen == [looked_up, EngineReady(), looked_up]
