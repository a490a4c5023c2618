"""Blocks in which a request is the running one, or the one that is being added to the engine."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine.gateway.request_context import RequestContext, reset_request, set_request
from engine.vllm.running_requests import RunningRequest, reset_added_request, set_added_request


@contextmanager
def request_scope(request: RequestContext) -> Iterator[None]:
    before = set_request(request)
    try:
        yield
    finally:
        reset_request(before)


@contextmanager
def track_additions(request: RunningRequest) -> Iterator[None]:
    before = set_added_request(request)
    try:
        yield
    finally:
        reset_added_request(before)
