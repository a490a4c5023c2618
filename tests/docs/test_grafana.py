"""The dashboard and the alerts name only what /metrics exports, and the JSON is up to date."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from engine.metrics import CacheMetrics
from engine.snapshot import CacheSnapshot
from engine.types import Tier
from grafana import build, cache
from grafana.layout import GRID_WIDTH, Panel, arranged

ROOT = Path(__file__).parents[2]
SERIES = re.compile(r"\badaptry_\w+")
PANELS = [panel for row in cache.ROWS for panel in row.panels]
EXPRESSIONS = [(panel.title, query.expression) for panel in PANELS for query in panel.queries]


def empty_cache() -> CacheSnapshot:
    return CacheSnapshot(
        slots=2,
        host_capacity=4,
        host_bytes_limit=None,
        gpu=(),
        host=(),
        loading=(),
        waiting=0,
        pinned=dict.fromkeys(Tier, 0),
    )


@pytest.fixture(scope="module")
def exporter() -> CollectorRegistry:
    """What /metrics holds after the request of one adapter."""
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)
    metrics.watch(empty_cache, in_step_loads=lambda: 0)
    metrics.request_ended("upper", "completed", 0.1)
    return registry


@pytest.fixture(scope="module")
def exported(exporter: CollectorRegistry) -> set[str]:
    return {sample.name for family in exporter.collect() for sample in family.samples}


def test_the_committed_json_is_what_the_generator_writes() -> None:
    assert build.OUTPUT.read_text(encoding="utf-8") == build.rendered(), "python -m grafana.build"


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_a_panel_names_only_exported_series(
    title: str, expression: str, exported: set[str]
) -> None:
    named = set(SERIES.findall(expression))
    assert named, f"{title} asks for no series of ours"
    assert named <= exported


def test_the_alerts_name_only_exported_series(exported: set[str]) -> None:
    rules = (ROOT / "grafana" / "alerts.yml").read_text(encoding="utf-8")
    assert set(SERIES.findall(rules)) <= exported


def test_every_exported_metric_is_on_the_dashboard(exporter: CollectorRegistry) -> None:
    shown = {name for _, expression in EXPRESSIONS for name in SERIES.findall(expression)}
    for family in exporter.collect():
        assert shown & {sample.name for sample in family.samples}, f"no panel shows {family.name}"


def test_every_query_obeys_the_instance_variable() -> None:
    for title, expression in EXPRESSIONS:
        selectors = re.findall(r"adaptry_\w+(\{[^}]*\})?", expression)
        assert all("$instance" in selector for selector in selectors), title


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    assert panel.description.endswith(".")
    if panel.kind == "timeseries":
        assert all(query.legend for query in panel.queries)


def test_no_two_panels_overlap_and_each_fits_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for place in arranged(cache.ROWS):
        if not isinstance(place.item, Panel):
            continue
        columns = range(place.x, place.x + place.item.width)
        cells = {(x, y) for x in columns for y in range(place.y, place.y + place.item.height)}
        assert max(columns) < GRID_WIDTH
        assert not cells & taken
        taken |= cells
