"""Dashboard *Adapters*: one adapter, with the moves of its aliases as annotations."""

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
    """Adds fields that Grafana's Prometheus source reads and the SDK lacks."""

    def to_json(self) -> dict[str, Any]:
        texts = {"titleFormat": "{{alias}}", "textFormat": "now points at version {{version}}"}
        return {**super().to_json(), **texts, "tagKeys": "adapter", "step": "15s"}


ADAPTERS = Frame(
    uid="adaptry-adapters",
    title="Adaptry / Adapters",
    description="One adapter: requests, tokens, times, live versions, and its place in the cache.",
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
