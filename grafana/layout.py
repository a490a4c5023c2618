"""Panels and rows as values, and the JSON that Grafana wants for them."""

from dataclasses import dataclass

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]
Json = dict[str, JsonValue]

GRID_WIDTH = 24
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and what its lines are called."""

    expression: str
    legend: str = ""

    def to_json(self, position: int) -> Json:
        return {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": self.expression,
            "legendFormat": self.legend,
            "range": True,
            "refId": chr(ord("A") + position),
        }


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph (`timeseries`) or one number (`stat`), coloured red from `alarm_from` on."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    stacked: bool = False
    kind: str = "timeseries"
    alarm_from: float | None = None

    @property
    def width(self) -> int:
        return 4 if self.kind == "stat" else 8

    @property
    def height(self) -> int:
        return 4 if self.kind == "stat" else 8

    def to_json(self, identity: int, x: int, y: int) -> Json:
        return {
            "datasource": DATASOURCE,
            "description": self.description,
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "id": identity,
            "options": self._options(),
            "targets": [query.to_json(n) for n, query in enumerate(self.queries)],
            "title": self.title,
            "type": self.kind,
        }

    def _defaults(self) -> Json:
        defaults: Json = {"unit": self.unit, "min": 0, "thresholds": self._thresholds()}
        if self.unit == "percentunit":
            defaults["max"] = 1
        if self.kind == "timeseries":
            defaults["custom"] = {
                "drawStyle": "line",
                "fillOpacity": 30 if self.stacked else 8,
                "lineWidth": 1,
                "showPoints": "never",
                "stacking": {"group": "A", "mode": "normal" if self.stacked else "none"},
            }
        return defaults

    def _thresholds(self) -> Json:
        steps: list[JsonValue] = [{"color": "green", "value": None}]
        if self.alarm_from is not None:
            steps.append({"color": "red", "value": self.alarm_from})
        return {"mode": "absolute", "steps": steps}

    def _options(self) -> Json:
        if self.kind == "stat":
            reduce: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            return {"colorMode": "value", "graphMode": "area", "reduceOptions": reduce}
        legend: Json = {"calcs": [], "displayMode": "list", "placement": "bottom"}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it, all of one height, from left to right."""

    title: str
    panels: tuple[Panel, ...]

    def to_json(self, identity: int, x: int, y: int) -> Json:
        return {
            "collapsed": False,
            "gridPos": {"h": 1, "w": GRID_WIDTH, "x": x, "y": y},
            "id": identity,
            "panels": [],
            "title": self.title,
            "type": "row",
        }


@dataclass(frozen=True, slots=True)
class Placed:
    """A heading or a panel and its upper left corner on Grafana's grid."""

    item: Row | Panel
    x: int
    y: int


def arranged(rows: tuple[Row, ...]) -> list[Placed]:
    """Rows from the top, panels from the left, wrapped at the grid's width."""
    placed: list[Placed] = []
    y = 0
    for row in rows:
        placed.append(Placed(row, 0, y))
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > GRID_WIDTH:
                x, y = 0, y + panel.height
            placed.append(Placed(panel, x, y))
            x += panel.width
        y += row.panels[-1].height
    return placed
