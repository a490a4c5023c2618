"""`GET /metrics` of a fleet: the entrance's series, and those of all replicas by their names."""

import asyncio
import gzip

from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engine.errors import EngineUnavailable
from engine.telemetry.endpoint import CONTENT_TYPE, PATH, encoded, wants_open_metrics
from fleet.ingress.merge_metrics import merged
from fleet.messages import Answers
from fleet.ports import Replicas


def create_metrics_route(replicas: Replicas) -> Route:
    """Without replicas, the entrance's own alone."""

    async def metrics(request: Request) -> Response:
        opened = wants_open_metrics(request)
        own = await asyncio.to_thread(encoded, REGISTRY, opened, compressed=False)
        content = merged(own.decode(), (await _scraped(replicas, opened)).values).encode()
        headers = {"content-type": CONTENT_TYPE if opened else CONTENT_TYPE_PLAIN_0_0_4}
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = await asyncio.to_thread(gzip.compress, content, 1)
            headers["content-encoding"] = "gzip"
        return Response(content, headers=headers)

    return Route(PATH, metrics, methods=["GET"], include_in_schema=False)


async def _scraped(replicas: Replicas, opened: bool) -> Answers[str]:
    try:
        return await replicas.ask("scrape", opened)
    except EngineUnavailable:
        return Answers()
