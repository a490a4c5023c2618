"""Writes dashboards/cache.json, which Grafana reads, from `cache.py`: `python -m grafana.build`."""

import json
from pathlib import Path

from grafana.cache import ROWS
from grafana.layout import DATASOURCE, Json, JsonValue, arranged

OUTPUT = Path(__file__).parent / "dashboards" / "cache.json"
SCHEMA_VERSION = 41  # Grafana 12; 10 and 11 read it too, as nothing newer is used


def variables() -> list[JsonValue]:
    datasource: Json = {
        "label": "Data source",
        "name": "datasource",
        "query": "prometheus",
        "type": "datasource",
    }
    values = "label_values(adaptry_queue_depth, instance)"
    instance: Json = {
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "datasource": DATASOURCE,
        "definition": values,
        "includeAll": True,
        "label": "Instance",
        "multi": True,
        "name": "instance",
        "query": {"qryType": 1, "query": values, "refId": "instance"},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }
    return [datasource, instance]


def dashboard() -> Json:
    return {
        "description": "Which adapters are resident where, and what that costs the requests.",
        "editable": True,
        "graphTooltip": 1,
        "panels": [p.item.to_json(n, p.x, p.y) for n, p in enumerate(arranged(ROWS), start=1)],
        "refresh": "10s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["adaptry"],
        "templating": {"list": variables()},
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "title": "Adaptry: adapter cache",
        "uid": "adaptry-cache",
    }


def rendered() -> str:
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(rendered(), encoding="utf-8")
