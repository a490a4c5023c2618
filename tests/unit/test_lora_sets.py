"""vLLM's gauge of the adapters that run: one series, whatever ran before."""

from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from engine.lora_sets import NewestSet, show_newest_set

NAMES = ["max_lora", "waiting_lora_adapters", "running_lora_adapters"]


@dataclass
class Logger:
    """As much of vLLM's logger as we touch; the real one is in tests/e2e/test_live_metrics.py."""

    gauge_lora_info: Any


@dataclass
class Manager:
    stat_loggers: list[Any] = field(default_factory=list)


def series(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def record(gauge: Any, running: str) -> None:
    """As vLLM does at each step: a number among the labels, and in an order of its own."""
    gauge.labels(
        running_lora_adapters=running, waiting_lora_adapters="", max_lora=2
    ).set_to_current_time()


def test_only_the_newest_set_is_shown() -> None:
    registry = CollectorRegistry()
    gauge = NewestSet(Gauge("running", "Text.", NAMES, registry=registry))
    for running in ("a", "b,a", "b", "b", "a"):
        record(gauge, running)
        [only] = series(registry)
        assert f'running_lora_adapters="{running}"' in only
        assert float(only.rpartition(" ")[2]) > 0


def test_it_takes_the_gauge_s_place_in_the_logger_that_has_one() -> None:
    registry = CollectorRegistry()
    logger = Logger(Gauge("running", "Text.", NAMES, registry=registry))
    show_newest_set(Manager([object(), Logger(None), logger]))
    for running in ("a", "b"):
        record(logger.gauge_lora_info, running)
    assert len(series(registry)) == 1


def test_nothing_is_done_where_nothing_is_logged() -> None:
    show_newest_set(None)
