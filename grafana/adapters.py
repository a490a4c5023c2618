"""The dashboard *Adapters*: one adapter, with the moves of its aliases as marks in time."""

from typing import Any

from grafana_foundation_sdk.models.dashboard import AnnotationQuery

from grafana.frame import Frame, variable
from grafana.panels import SOURCE
from grafana.promql import ADAPTER, series
from grafana.rows.adapter import CACHED, GLANCE, USE

ALIASES = series("adaptry_alias_version", ADAPTER)
MOVES = (
    f'count_values by (adapter, alias) ("version", {ALIASES})'
    f" and on (adapter, alias) (changes({ALIASES}[1m]) > 0)"
)


class PrometheusAnnotation(AnnotationQuery):
    """What Grafana's Prometheus source reads besides, and the SDK has no fields for."""

    def to_json(self) -> dict[str, Any]:
        texts = {"titleFormat": "{{alias}}", "textFormat": "now means version {{version}}"}
        return {**super().to_json(), **texts, "tagKeys": "adapter", "step": "15s"}


ADAPTERS = Frame(
    uid="adaptry-adapters",
    title="Adaptry / Adapters",
    description="One adapter: its requests, tokens and times, the versions live, and the cache.",
    rows=(GLANCE, USE, CACHED),
    instances="adaptry_queue_depth",
    variables=(
        variable(
            "adapter", "Adapter", f"label_values({series('adaptry_requests_total')}, adapter)"
        ),
    ),
    annotations=(
        PrometheusAnnotation(
            name="Alias moves", datasource=SOURCE, icon_color="purple", expr=MOVES
        ),
    ),
)
