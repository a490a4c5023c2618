"""vLLM's gauge of running adapters is replaced by the cache's own."""

import re
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from engine.cache.snapshot import CacheSnapshot
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.router_series import NAMES as ROUTER_SERIES
from engine.types import Tier
from engine.vllm.metric_patches import remove_lora_gauge

NAMES = ["max_lora", "waiting_lora_adapters", "running_lora_adapters"]


@dataclass
class Logger:
    """The parts of vLLM's logger in use; the real one: tests/e2e/cache/test_live_metrics.py."""

    gauge_lora_info: Any


@dataclass
class Manager:
    stat_loggers: list[Any] = field(default_factory=list)


def test_the_gauge_is_unregistered_and_its_name_is_free() -> None:
    registry = CollectorRegistry()
    logger = Logger(Gauge("running", "Text.", NAMES, registry=registry))
    logger.gauge_lora_info.labels(*NAMES).set(1)
    remove_lora_gauge(Manager([object(), Logger(None), logger]), registry)
    assert logger.gauge_lora_info is None
    assert b"running" not in generate_latest(registry)
    Gauge("running", "Text.", NAMES, registry=registry)


def test_nothing_is_done_if_vllm_logs_no_stats() -> None:
    remove_lora_gauge(None, CollectorRegistry())


def test_series_that_a_newer_vllm_brings_give_way_to_ours() -> None:
    """Or a page would have them twice, and vLLM's would be found taken when an engine restarts."""
    registry = CollectorRegistry()
    ours = CacheMetrics(registry, model_name="tiny")
    empty = CacheSnapshot(2, 3, None, (), (), (), 0, dict.fromkeys(Tier, 0))
    ours.watch(lambda: empty, lambda: 0)
    for _ in range(2):  # engines
        theirs = Gauge("vllm:num_gpu_loaded_lora_adapters", "Text.", ["engine"], registry=registry)
        theirs.labels("7").set(9)
        Counter("vllm:lora_cache_hits", "Text.", ["engine", "tier"], registry=registry)
        remove_lora_gauge(Manager([]), registry)
        page = generate_latest(registry).decode()
        for family in ROUTER_SERIES:
            assert len(re.findall(rf"^# TYPE {family}(_total)? ", page, re.MULTILINE)) == 1, family
        assert 'vllm:num_gpu_loaded_lora_adapters{engine="0",model_name="tiny"} 0.0' in page
