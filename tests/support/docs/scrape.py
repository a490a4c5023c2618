"""A scrape of a server's /metrics in OpenMetrics, as Prometheus reads it."""

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser

_ACCEPT = {"accept": "application/openmetrics-text; version=1.0.0"}


def scraped(client: httpx.Client) -> list[Metric]:
    response = client.get("/metrics", headers=_ACCEPT)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    parse = parser.text_string_to_metric_families
    return list(parse(response.text))  # type: ignore[no-untyped-call]  # theirs
