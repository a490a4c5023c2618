"""What dashboards, alerts and runbooks.md ask, asked of a real Prometheus over the real server.

Grafana's variables are filled in as Grafana would. A query must answer with numbers; an alert must
evaluate, and what it watches must be there, at 0 where all is well.
"""

import math
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from grafana import runbooks
from grafana.rows import cache_health
from guest.metrics import GuestMetrics
from tests.support.docs.dashboards import NAME, Asked, as_grafana_asks, queries
from tests.support.docs.forked_commands import folder_of_commands
from tests.support.servers.prometheus import Prometheus, running_prometheus
from tests.support.traffic.background import BUSY, Server, Traffic, traffic_on

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[3]
RULES = ROOT / "grafana" / "rules"
ANSWER_SECONDS = 60.0
RATE_SECONDS = 15
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/*.yml"]
scrape_configs:
  - job_name: adaptry
    static_configs: [{{targets: ["{target}"]}}]
  - job_name: adaptry-guests
    static_configs: [{{targets: ["{guest}"]}}]
"""
# Nothing to draw where the demo sets no limit: then the limit itself must say so.
NO_LIMIT = "adaptry_host_bytes_limit"
# Series of a code begin when there is one; to a new Prometheus, one of before is news too.
BY_CODE = {"adaptry_quarantines_total"}
NEWS = {"AdaptryQuarantine"}
SECTIONS = runbooks.sections()


@pytest.fixture(scope="module")
def traffic(live_server: Server) -> Iterator[Traffic]:
    with traffic_on(live_server) as traffic:
        yield traffic


@pytest.fixture(scope="module")
def prometheus(
    live_server: Server, traffic: Traffic, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    target = live_server.base_url.removeprefix("http://")
    collectors = CollectorRegistry()
    GuestMetrics(collectors)
    guest, thread = start_http_server(0, "127.0.0.1", collectors)
    config = CONFIG.format(target=target, guest=f"127.0.0.1:{guest.server_port}", rules=RULES)
    folder = tmp_path_factory.mktemp("prometheus")
    with running_prometheus(folder, config, "--enable-feature=exemplar-storage") as started:
        yield started
    guest.shutdown()
    guest.server_close()
    thread.join()


def asked_here(expression: str) -> str:
    return as_grafana_asks(expression, BUSY, RATE_SECONDS)


def answer_of(prometheus: Prometheus, expression: str) -> list[float]:
    """Waits until two scrapes lie within the interval that rates look at."""
    found: list[float] = []

    def answered() -> bool:
        found[:] = [v for v in prometheus.ask(asked_here(expression)) if not math.isnan(v)]
        return bool(found)

    wait_until(answered, f"no data for {expression}")
    return found


def wait_until(so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while not so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.5)


def rules() -> list[dict[str, Any]]:
    files = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(RULES.glob("*")))
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def test_every_rule_is_evaluated_and_no_alert_fires_without_reason(prometheus: Prometheus) -> None:
    """Before the traffic has lasted for as long as alerts on it wait."""

    def known() -> list[dict[str, Any]]:
        groups = prometheus.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def evaluated() -> bool:
        return all(rule["health"] == "ok" for rule in known())

    wait_until(evaluated, "not every rule was evaluated")
    assert len(known()) == len(rules())
    reasons = set(NEWS)
    if prometheus.ask("sum(adaptry_load_failures_total) > 0"):  # by harm that other tests have done
        reasons |= {"AdaptryLoadFailures", "AdaptryLoadsRefused"}
    assert {rule["name"] for rule in known() if rule.get("state") == "firing"} <= reasons


@pytest.mark.parametrize("asked", queries(), ids=str)
def test_a_query_has_data(prometheus: Prometheus, asked: Asked) -> None:
    if NO_LIMIT in asked.expression and answer_of(prometheus, NO_LIMIT) == [math.inf]:
        assert not prometheus.ask(asked_here(asked.expression))
    else:
        assert answer_of(prometheus, asked.expression)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_what_a_rule_looks_at_is_there(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    prometheus.ask(rule["expr"])
    for name in set(NAME.findall(rule["expr"])) - BY_CODE:
        assert answer_of(prometheus, name), name


@pytest.mark.parametrize("alert", SECTIONS)
def test_the_query_of_a_runbook_can_be_asked(prometheus: Prometheus, alert: str) -> None:
    (query,) = re.findall(r"^```promql\n(.+?)\n```$", SECTIONS[alert], re.DOTALL | re.MULTILINE)
    if not BY_CODE & set(NAME.findall(query)):
        assert answer_of(prometheus, query)
    prometheus.ask(query)


@pytest.mark.parametrize("alert", SECTIONS)
def test_the_command_of_a_runbook_can_be_given(live_server: Server, alert: str) -> None:
    (command,) = re.findall(r"^```sh\nadaptry (.+)\n```$", SECTIONS[alert], re.MULTILINE)
    done = subprocess.run(
        [folder_of_commands() / "adaptry", *command.replace("NAME", "upper").split()],
        env={**os.environ, "ADAPTRY_SERVER": live_server.base_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_numbers_agree_with_each_other(prometheus: Prometheus) -> None:
    (asked,) = answer_of(prometheus, cache_health.LOOKED_UP)
    (in_slot,) = answer_of(prometheus, cache_health.IN_SLOT)
    (in_memory,) = answer_of(prometheus, cache_health.IN_MEMORY)
    (slots,) = answer_of(prometheus, "sum (adaptry_slots)")
    resident = answer_of(prometheus, 'adaptry_resident{tier="gpu"}')
    assert asked > 0
    assert 0 <= in_slot <= in_memory <= 1
    assert max(resident) <= slots


def shown(dashboard: str, title: str) -> str:
    """The expression of the first panel of this name."""
    named = (dashboard, f"{title} (A)")
    found = [asked for asked in queries() if (asked.dashboard, asked.title) == named]
    return asked_here(found[0].expression)


def test_an_alias_move_is_a_mark_that_names_the_version(
    prometheus: Prometheus, traffic: Traffic
) -> None:
    (marks,) = [asked.expression for asked in queries() if asked.kind == "annotation"]

    def moved() -> bool:
        labels = [labels for labels, _ in prometheus.series(asked_here(marks))]
        return any(mark["alias"] == "default" and mark["version"] in "12" for mark in labels)

    wait_until(moved, "no mark of an alias that was moved")


@contextmanager
def pinned(client: httpx.Client, adapter: str) -> Iterator[None]:
    pin = client.post("/api/v1/cache/pins", json={"reference": adapter, "tier": "gpu"})
    assert pin.is_success, pin.text
    try:
        yield
    finally:
        client.delete(f"/api/v1/cache/pins/{adapter}")


def test_an_adapter_that_thrashes_is_found_pinned_and_recovers(
    live_server: Any, prometheus: Prometheus, traffic: Traffic
) -> None:
    """By the dashboards' queries alone: which adapter, why, and did the pin help."""

    def found_in_slot() -> float:
        (share,) = prometheus.ask(shown("adapters", "Found in a slot"))
        return share

    def most_evicted_is_busy() -> bool:
        evicted = prometheus.series(shown("cache", "Most evicted"))
        ordered = sorted(evicted, key=lambda series: -series[1])
        return bool(ordered) and ordered[0][0]["adapter"] == BUSY

    wait_until(most_evicted_is_busy, "the panel does not show who is evicted most")
    assert found_in_slot() < 0.5
    (thrash,) = prometheus.ask(shown("cache", "Thrash"))
    assert thrash > 0.2
    with traffic.without_moves(), pinned(live_server.client, BUSY):
        wait_until(lambda: found_in_slot() > 0.9, "the pin did not help")
        (used,) = prometheus.ask(shown("cache", "Pin budget used"))
        assert used == 1


def test_a_quarantine_fires_its_alert(live_server: Any, prometheus: Prometheus) -> None:
    live_server.register("bad-adapter", ROOT / "demo" / "adapters" / "stars")
    path = "/api/v1/adapters/bad-adapter/versions/1/quarantine"
    assert live_server.client.post(path, json={"reason": "test", "code": "operator"}).is_success
    firing = 'ALERTS{alertname="AdaptryQuarantine",alertstate="firing",code="operator"}'
    wait_until(lambda: prometheus.ask(firing) == [1.0], "the quarantine's alert did not fire")
    (alerts,) = prometheus.ask(shown("cache", "Alerts firing"))
    assert alerts >= 1
