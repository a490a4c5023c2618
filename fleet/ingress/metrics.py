"""Metrics of a fleet: `GET /metrics` merges the ingress's series with those of all replicas."""

import asyncio
import gzip

from fastapi import FastAPI
from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engine.errors import EngineUnavailable
from engine.telemetry.endpoint import (
    CONTENT_TYPE,
    PATH,
    accepts_open_metrics,
    encode,
    named_series,
    wanted_names,
)
from fleet.ingress.merge_metrics import merge
from fleet.messages import ReplicaResults
from fleet.ports import Replicas

_NOT_COUNTED = ["/metrics", "/healthz", "/readyz"]


def count_http_requests(app: FastAPI) -> None:
    """The series that vLLM's application has of its routes, for the ingress's own routes.

    By handler, method and status: `http_requests_total`, `http_request_duration_seconds`. Requests
    that are forwarded have no handler here; their replica counts them.
    """
    instrumentator = Instrumentator(
        excluded_handlers=_NOT_COUNTED, should_ignore_untemplated=True, registry=REGISTRY
    )
    instrumentator.instrument(app)


def create_metrics_route(replicas: Replicas) -> Route:
    """While no replica answers, the ingress's series alone. `name[]` as on one server."""

    async def metrics(request: Request) -> Response:
        opened = accepts_open_metrics(request)
        names = wanted_names(request)
        wanted = named_series(REGISTRY, names)
        own = await asyncio.to_thread(encode, wanted, opened, compressed=False)
        content = merge(own.decode(), (await _scrape(replicas, opened, names)).values).encode()
        headers = {"content-type": CONTENT_TYPE if opened else CONTENT_TYPE_PLAIN_0_0_4}
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = await asyncio.to_thread(gzip.compress, content, 1)
            headers["content-encoding"] = "gzip"
        return Response(content, headers=headers)

    return Route(PATH, metrics, methods=["GET"], include_in_schema=False)


async def _scrape(replicas: Replicas, opened: bool, names: frozenset[str]) -> ReplicaResults[str]:
    try:
        return await replicas.call("scrape", opened, names)
    except EngineUnavailable:
        return ReplicaResults()
