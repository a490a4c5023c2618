"""Sums over a metric's series: by labels, and none of a metric whose name begins alike."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from tests.support.metrics_text import total


@pytest.fixture
def page() -> str:
    registry = CollectorRegistry()
    evictions = Counter("evictions", "", ["on_tier", "tier"], registry=registry)
    evictions.labels("a", "gpu").inc(2)
    evictions.labels("b", "gpu").inc(3)
    evictions.labels("gpu", "host").inc(7)
    Gauge("waiting", "", registry=registry).set(1.5)
    Gauge("waiting_by_reason", "", ["reason"], registry=registry).labels("x").set(4)
    Counter("quarantines", "", ["code"], registry=registry)
    return generate_latest(registry).decode()


def test_series_are_summed_by_their_labels(page: str) -> None:
    assert total(page, "evictions_total") == 12
    assert total(page, "evictions_total", tier="gpu") == 5
    assert total(page, "evictions_total", tier="gpu", on_tier="b") == 3
    assert total(page, "waiting") == 1.5


def test_nothing_counted_yet_is_none_and_an_unknown_metric_an_error(page: str) -> None:
    assert total(page, "quarantines_total") == 0
    assert total(page, "evictions_total", tier="disk") == 0
    with pytest.raises(AssertionError, match="quarantine_total is not on"):
        total(page, "quarantine_total")
