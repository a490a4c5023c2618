"""What the committed dashboards ask of Prometheus, read from the JSON as Grafana reads it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "grafana" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))
LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")
NAME = re.compile(r"\b(?:adaptry_|vllm:|http_)\w+|\binstance\w*:\w+:\w+|\bALERTS\b|\bup\b")


@dataclass(frozen=True, slots=True)
class Asked:
    """One expression: of a panel, an annotation, or a variable's `label_values`."""

    dashboard: str
    title: str
    kind: str
    expression: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.title}"


def loaded(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def panels_of(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows too, and panels in collapsed ones."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> list[Asked]:
    return [asked for file in FILES for asked in _of(file.stem, loaded(file))]


def as_grafana_asks(expression: str, adapter: str, rate_seconds: int = 15) -> str:
    """The expression with Grafana's variables filled in: all instances, one adapter."""
    values = {
        "$__rate_interval": f"{rate_seconds}s",
        "$__range": "5m",
        "$instance": ".*",
        "$adapter": adapter,
    }
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"no value for a variable of {expression}"
    return expression


def _of(name: str, dashboard: dict[str, Any]) -> Iterator[Asked]:
    for panel in panels_of(dashboard):
        for target in panel.get("targets", ()):
            title = f"{panel['title']} ({target['refId']})"
            yield Asked(name, title, panel["type"], target["expr"])
    for annotation in dashboard["annotations"]["list"]:
        yield Asked(name, annotation["name"], "annotation", annotation["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = LABEL_VALUES.fullmatch(variable["query"]["query"])
            assert found, variable
            expression = f"group by ({found['label']}) ({found['selector']})"
            yield Asked(name, f"variable {variable['name']}", "variable", expression)
