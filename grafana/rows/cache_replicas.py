"""Engines row of the dashboard Cache: each engine by itself."""

from grafana.frame import Row
from grafana.meaning import Meaning
from grafana.panels import areas, graph
from grafana.promql import Query, lowest, rate, share, total
from grafana.rows.cache_health import LOOKUPS

NAME = "{{instance}} {{replica}}"
BY = "instance, replica"

REPLICAS = Row(
    "Engines",
    (
        graph(
            "Requests by engine",
            Meaning(
                "Requests that named an adapter, per second, on each engine.",
                "one has far more than the others for a long time.",
                "its adapters are the most requested: pin them on more replicas.",
            ),
            Query(rate("adaptry_requests_total", by=BY), NAME),
            unit="reqps",
        ),
        graph(
            "Hit ratio by engine",
            Meaning(
                "Share of lookups that found their adapter in a slot, on each engine.",
                "one is lower than the others: it has more adapters than it has slots for.",
                "look at the adapters on it with `adaptry cache show`.",
                "AdaptryHitRatioCollapsed",
            ),
            Query(
                share(
                    rate(LOOKUPS, 'tier="gpu"', 'result="hit"', by=BY),
                    rate(LOOKUPS, 'tier="gpu"', by=BY),
                ),
                NAME,
            ),
            unit="percentunit",
        ),
        areas(
            "In host memory by engine",
            Meaning(
                "Adapters in host memory, on each engine. If many are on several, the "
                "replicas hardly specialise.",
                "one is empty: it has just started, or gets no requests.",
                "see *Engines serving*.",
            ),
            Query(total("adaptry_resident", 'tier="host"', by=BY), NAME),
        ),
        graph(
            "Engines serving",
            Meaning(
                "1: it serves. 0: it is being replaced, and its requests go to the others.",
                "0 for longer than a start takes.",
                "the server's log says why it does not start.",
                "AdaptryEngineDown",
            ),
            Query(lowest("adaptry_engine_up", by=BY), NAME),
        ),
    ),
)
