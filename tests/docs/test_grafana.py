"""The dashboards are what the generator writes, fit Grafana's schema, and explain themselves.

Checked without a Grafana: each file against `dashboard.schema.json`, the part of Grafana's kind
`dashboard` v1 that we use, written down here with every key closed; and read and written again by
Grafana's own SDK, which drops what its types don't know.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from jsonschema import Draft202012Validator

from grafana import build
from grafana.frame import TAG
from tests.support.docs.dashboards import FILES, Asked, as_grafana_asks, loaded, panels_of, queries
from tests.support.servers.prometheus import promtool

SCHEMA = Draft202012Validator(loaded(Path(__file__).with_name("dashboard.schema.json")))
DASHBOARDS = {file.stem: loaded(file) for file in FILES}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in panels_of(dashboard)
    if panel["type"] not in ("row", "text")
]
# Grafana's Prometheus source reads these of an annotation; the SDK has no fields for them.
BEYOND_THE_SDK = ("step", "tagKeys", "textFormat", "titleFormat")
GRID_WIDTH = 24
MOST_COLOURS = 8
by_name = pytest.mark.parametrize("name", DASHBOARDS)


def test_the_committed_json_is_what_the_generator_writes() -> None:
    written = {name: build.render(frame) for name, frame in build.FILES.items()}
    committed = {file.name: file.read_text(encoding="utf-8") for file in FILES}
    assert committed == written, "python -m grafana.build"


@by_name
def test_a_dashboard_fits_the_schema(name: str) -> None:
    assert not [f"{list(e.path)}: {e.message}" for e in SCHEMA.iter_errors(DASHBOARDS[name])]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The cache's dashboard with one value put in at `path`."""
    copy: dict[str, Any] = json.loads(json.dumps(DASHBOARDS["cache"]))
    place: Any = copy
    *before, last = path.split("/")
    for step in before:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schemaVersion", 40),
        ("uid", "short"),
        ("panels/1/type", "graph"),
        ("panels/1/gridPos/w", 25),
        ("panels/1/targets/0/datasource/uid", "P1809F7CD0C75ACF3"),
        ("panels/1/options", None),
        ("panels/1/colour", "red"),
        ("panels/1/fieldConfig/defaults/unit", "seconds"),
        ("templating/list/1/query", {"query": "up"}),
    ],
)
def test_the_schema_refuses_a_broken_dashboard(path: str, value: object) -> None:
    assert not SCHEMA.is_valid(changed(path, value))


@by_name
def test_the_sdk_reads_a_dashboard_and_writes_the_same(name: str) -> None:
    plugins.register_default_plugins()
    read = Dashboard.from_json(json.loads(json.dumps(DASHBOARDS[name])))
    written = json.loads(json.dumps(read, cls=JSONEncoder))
    expected = json.loads(json.dumps(DASHBOARDS[name]))
    for annotation in expected["annotations"]["list"]:
        for key in BEYOND_THE_SDK:
            del annotation[key]
    assert written == expected


@by_name
def test_every_panel_has_a_number_of_its_own_and_a_place(name: str) -> None:
    panels = list(panels_of(DASHBOARDS[name]))
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert max(columns) < GRID_WIDTH
        assert not cells & taken
        taken |= cells


@by_name
def test_the_first_row_fills_one_line_with_numbers(name: str) -> None:
    heading, *panels = DASHBOARDS[name]["panels"]
    first = [panel for panel in panels if panel["gridPos"]["y"] == heading["gridPos"]["y"] + 1]
    assert {panel["type"] for panel in first} == {"stat"}
    assert sum(panel["gridPos"]["w"] for panel in first) == GRID_WIDTH


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_describes_its_value_the_bad_case_and_the_action(panel: dict[str, Any]) -> None:
    shows, bad, do = panel["description"].split("\n\n")
    assert bad.startswith("**Bad:** ")
    assert do.startswith("**Do:** ")
    assert all(part.endswith(".") for part in (shows, bad, do))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_unit_and_names_its_lines(panel: dict[str, Any]) -> None:
    if panel["type"] in ("stat", "timeseries", "bargauge"):
        assert panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] not in ("stat", "table"):
        assert all(target["legendFormat"] for target in panel["targets"])


def test_few_colours_are_used() -> None:
    text = json.dumps(DASHBOARDS)
    assert len(set(re.findall(r'"(?:fixedColor|color)": "([\w-]+)"', text))) <= MOST_COLOURS


@pytest.mark.parametrize("asked", queries(), ids=str)
def test_every_query_obeys_the_instance_variable(asked: Asked) -> None:
    selectors = re.findall(r"\b(?:adaptry_|vllm:|http_|ALERTS)\w*(\{[^}]*\})?", asked.expression)
    assert selectors, asked.expression
    if asked.title != "variable instance":
        assert all("$instance" in selector for selector in selectors), asked.expression


def test_the_queries_are_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:number:{n}", "expr": as_grafana_asks(asked.expression, "upper")}
        for n, asked in enumerate(queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    subprocess.run([promtool(), "check", "rules", file], check=True)


@by_name
def test_every_link_leads_somewhere(name: str) -> None:
    known = {dashboard["uid"]: dashboard for dashboard in DASHBOARDS.values()}
    text = json.dumps(DASHBOARDS[name])
    addresses = re.findall(r'"url": "/d/([\w-]+)\?([^"]*)"', text)
    for uid, parameters in addresses:
        numbers = {panel["id"] for panel in panels_of(known[uid])}
        if shown := re.search(r"viewPanel=(\d+)", parameters):
            assert int(shown[1]) in numbers
        if given := re.search(r"var-(\w+)=", parameters):
            variables = known[uid]["templating"]["list"]
            assert given[1] in {variable["name"] for variable in variables}
    (others, _) = DASHBOARDS[name]["links"]
    assert others["tags"] == [TAG] == DASHBOARDS[name]["tags"]


def test_a_runbook_links_only_to_panels() -> None:
    """Grafana has neither the sections of its page nor other pages."""
    panels = [panel for each in DASHBOARDS.values() for panel in panels_of(each)]
    texts = [panel["options"]["content"] for panel in panels if panel["type"] == "text"]
    links = re.findall(r"\]\(([^)]*)\)", "".join(texts))
    assert links
    for link in links:
        found = re.fullmatch(r"/d/([\w-]+)\?viewPanel=(\d+)&.+", link)
        assert found, link
        (shown,) = [each for each in DASHBOARDS.values() if each["uid"] == found[1]]
        assert int(found[2]) in {panel["id"] for panel in panels_of(shown)}


@by_name
def test_the_page_names_every_panel_of_a_dashboard(name: str) -> None:
    page = (build.FOLDER.parents[1] / "docs" / "dashboards.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### {name}$(.*?)(?=^##)", page, re.S | re.M | re.I)
    named = set(re.findall(r"\*\*(.+?)\*\*", section))
    panels = [p for p in panels_of(DASHBOARDS[name]) if p["type"] not in ("row", "text")]
    assert named == {panel["title"] for panel in panels}
