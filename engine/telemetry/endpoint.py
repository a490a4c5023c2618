"""Metrics endpoint: `GET /metrics` with vLLM's series and ours.

Replaces vLLM's own route (0.26 to 0.32), which does not speak OpenMetrics, so that exemplars would
be lost, and which reads gauges on a thread while their source changes.
"""

import asyncio
import gzip
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from copy import copy

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as open_metrics
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH = "/metrics"

CONTENT_TYPE = open_metrics.CONTENT_TYPE_LATEST
_OPEN_METRICS = "application/openmetrics-text"


def create_metrics_route(
    registry: CollectorRegistry, freeze_gauges: Callable[[], AbstractContextManager[None]]
) -> Route:
    """`freeze_gauges` takes the snapshot that a scrape encodes in a thread beside the event loop.

    OpenMetrics for clients that accept `application/openmetrics-text`, else Prometheus' own text.
    Each `name[]` of the query is a series that is wanted, as in Prometheus' own exporter.
    """

    async def metrics(request: Request) -> Response:
        opened = accepts_open_metrics(request)
        compressed = "gzip" in request.headers.get("accept-encoding", "")
        wanted = named_series(registry, wanted_names(request))
        with freeze_gauges():
            content = await asyncio.to_thread(encode, wanted, opened, compressed)
        headers = {"content-type": CONTENT_TYPE if opened else CONTENT_TYPE_PLAIN_0_0_4}
        if compressed:
            headers["content-encoding"] = "gzip"
        return Response(content, headers=headers)

    return Route(PATH, metrics, methods=["GET"], include_in_schema=False)


def wanted_names(request: Request) -> frozenset[str]:
    """Empty for all."""
    return frozenset(request.query_params.getlist("name[]"))


def named_series(registry: CollectorRegistry, names: frozenset[str]) -> Collector:
    """Those with one of these names; all without any."""
    return _Named(registry, names) if names else registry


class _Named(Collector):
    """Series with these names. The registry's own choice misses what has none beforehand."""

    def __init__(self, registry: CollectorRegistry, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            named = copy(family)
            named.samples = [each for each in family.samples if each.name in self._names]
            if named.samples:
                yield named


def accepts_open_metrics(request: Request) -> bool:
    """Decided by the Accept header, as in Prometheus' own exporter."""
    return _OPEN_METRICS in request.headers.get("accept", "")


def encode(registry: Collector, opened: bool, compressed: bool) -> bytes:
    """Encode one scrape; `opened`: as OpenMetrics.

    Names need no escaping: prometheus-client 0.26 would turn `vllm:` into `vllm_`.
    """
    if opened:
        text: bytes = open_metrics.generate_latest(  # type: ignore[no-untyped-call]  # theirs
            registry, escaping=open_metrics.ALLOWUTF8
        )
    else:
        text = generate_latest(registry)
    return gzip.compress(text, compresslevel=1) if compressed else text
