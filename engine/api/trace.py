"""Trace route: the recorded arrivals of this server, as lines of JSON."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from engine.api.cache import ERRORS, EngineProblemRoute
from engine.errors import TraceOff, TraceUnreadable
from engine.trace.recorder import TraceRecorder

_LINES = {"content": {"application/x-ndjson": {}}, "description": "One request, load or start."}
_BATCH = 1000


def create_trace_router(trace: TraceRecorder | None) -> APIRouter:
    """`/api/v1/cache/trace`. `trace` None: none is recorded."""
    router = APIRouter(
        prefix="/api/v1/cache",
        tags=["cache"],
        route_class=EngineProblemRoute,
        responses={code: {} for code in ERRORS},
    )

    @router.get("/trace", response_class=Response, responses={200: _LINES})
    async def export() -> Response:
        """The trace of this server, one object per line, as it was recorded.

        `kind` is `request`, `load`, or `server`: the engine and the limits of the lines after it.
        """
        if trace is None:
            raise TraceOff
        await trace.flush()
        lines = trace.export()
        try:
            first = await asyncio.to_thread(_next_batch, lines)
        except OSError as error:
            raise TraceUnreadable(str(error)) from error
        return StreamingResponse(_batches(first, lines), media_type="application/x-ndjson")

    return router


async def _batches(first: bytes, lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    batch = first
    while batch:
        yield batch
        batch = await asyncio.to_thread(_next_batch, lines)


def _next_batch(lines: Iterator[bytes]) -> bytes:
    return b"".join(islice(lines, _BATCH))
