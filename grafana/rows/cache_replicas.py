"""Cache: each engine of several; where there is one alone, that one."""

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
                "one has far more than the others for long.",
                "its adapters are the ones most asked for: pin them on more replicas.",
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
                "Adapters in host memory, on each engine. Many that are on several mean that "
                "replicas hardly specialise.",
                "one is empty: it has just started, or gets no requests.",
                "see *Engines that answer*.",
            ),
            Query(total("adaptry_resident", 'tier="host"', by=BY), NAME),
        ),
        graph(
            "Engines that answer",
            Meaning(
                "1: it serves. 0: it is being replaced, and its requests go to the others.",
                "0 for longer than a start takes.",
                "look into the server's log for why it does not start.",
                "AdaptryEngineDown",
            ),
            Query(lowest("adaptry_engine_up", by=BY), NAME),
        ),
    ),
)
