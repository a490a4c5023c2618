"""The same series of HTTP requests that vLLM's application has of its own routes."""

from fastapi import FastAPI
from prometheus_client import REGISTRY
from prometheus_fastapi_instrumentator import Instrumentator

_NOT_COUNTED = ["/metrics", "/healthz", "/readyz"]


def count_http_requests(app: FastAPI) -> None:
    """By handler, method and status: `http_requests_total`, `http_request_duration_seconds`.

    What is passed on has no handler here; its replica counts it.
    """
    instrumentator = Instrumentator(
        excluded_handlers=_NOT_COUNTED, should_ignore_untemplated=True, registry=REGISTRY
    )
    instrumentator.instrument(app)
