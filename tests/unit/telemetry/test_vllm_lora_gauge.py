"""vLLM's gauge of running adapters is replaced by the cache's own."""

from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

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
