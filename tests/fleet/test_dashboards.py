"""Dashboards with several engines: a real Prometheus has data for each query."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.tasks import TASKS
from tests.fleet.conftest import ServedFleet
from tests.support.docs.dashboards import NAME, Asked, as_grafana_asks, queries
from tests.support.servers.prometheus import Prometheus, running_prometheus
from tests.support.traffic.background import BUSY, traffic_on

pytestmark = [pytest.mark.servers("fleet")]

ANSWER_SECONDS = 120.0
RATE_SECONDS = 15
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
scrape_configs:
  - job_name: adaptry
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
NO_LIMIT = "adaptry_host_bytes_limit"  # without a limit there is nothing to draw
OF_GUESTS = {"adaptry_guest_behind", "adaptry_guest_refusals_total"}
# Recording rules and alerts are not loaded here, and a series of a code begins when there is one.
NOT_HERE = {"ALERTS", "adaptry_quarantines_total", "adaptry_rejections_total", NO_LIMIT} | OF_GUESTS


@dataclass
class Scraped:
    base_url: str


def has_data(prometheus: Prometheus, asked: Asked) -> bool:
    expression = as_grafana_asks(asked.expression, BUSY, RATE_SECONDS)
    return any(not math.isnan(value) for value in prometheus.ask(expression))


def test_every_query_has_data_of_several_engines(fleet: ServedFleet, tmp_path: Path) -> None:
    waiting = [each for each in queries() if not NOT_HERE & set(NAME.findall(each.expression))]
    assert len(waiting) > 60
    for name in TASKS:
        fleet.register(name)
    with (
        running_prometheus(tmp_path, CONFIG.format(port=fleet.port)) as prometheus,
        traffic_on(Scraped(fleet.url())),
    ):
        deadline = time.monotonic() + ANSWER_SECONDS
        while waiting and time.monotonic() < deadline:
            waiting = [each for each in waiting if not has_data(prometheus, each)]
            time.sleep(0.5)
        assert waiting == [], "\n".join(map(str, waiting))
        series = prometheus.series("sum by (replica) (adaptry_slots)")
        by_replica = {labels.get("replica", ""): slots for labels, slots in series}
        assert set(by_replica) == set(fleet.replicas())
        total = prometheus.ask("sum(adaptry_slots)")
        assert total == [fleet.cache()["slots"]]
        (adapters,) = prometheus.ask("max(adaptry_registry_adapters)")
        listed = fleet.client.get("/api/v1/adapters", params={"limit": 500}).json()["items"]
        assert adapters == len(listed)
