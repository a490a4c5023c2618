"""Server-Sent Events (WHATWG HTML, section 9.2): frames, responses and the stream limit."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from registry.auth.caller import Check, current_caller, current_check
from registry.errors import DatabaseUnavailable, InvalidEventId, RegistryError, TooManyStreams
from registry.http.leaving_client import end_tasks, until_left
from registry.places import Places

logger = logging.getLogger(__name__)

RECONNECT_MS = 2000
CLOSE_SECONDS = 1.0
KEY_CHECK_SECONDS = 1.0
HEARTBEAT = b": alive\n\n"
"""A comment frame, without an event."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """A client that reads nothing for `stall_seconds` is disconnected; it may resume."""

    max_streams: int = 100
    heartbeat_seconds: float = 15.0
    stall_seconds: float = 60.0


class StreamLimiter:
    """Limits concurrent streams; all of them end once `closed` is set."""

    def __init__(self, limits: StreamLimits, closed: asyncio.Event) -> None:
        self.limits = limits
        self.closed = closed
        self._places = Places(limits.max_streams)

    @property
    def open(self) -> int:
        return self._places.taken

    def check(self) -> None:
        """Raises TooManyStreams at the limit, or at the share of the caller's tenant."""
        tenant = current_caller().tenant
        if not self._places.has_place(tenant):
            raise TooManyStreams(self.limits.max_streams, tenant)

    def response(self, frames: AsyncGenerator[bytes]) -> Response:
        """A response that counts against the limit while it is sent."""
        return _StreamResponse(self, frames)

    def acquire(self) -> AbstractContextManager[None]:
        return self._places.hold(current_caller().tenant)


def event_frame(id_: int, data: str) -> bytes:
    """One event. `data` has no line breaks."""
    return f"id: {id_}\ndata: {data}\n\n".encode()


def opening_frame(after: int) -> bytes:
    """First frame: the reconnection time, and the position to resume from."""
    return f"retry: {RECONNECT_MS}\n".encode() + position_frame(after)


def position_frame(after: int) -> bytes:
    """A heartbeat that also sets the client's `Last-Event-ID`."""
    return f"id: {after}\n".encode() + HEARTBEAT


def parse_event_id(text: str) -> int:
    """Parse the header `Last-Event-ID`. Raises InvalidEventId."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidEventId
    return int(text)


_END_OF_BODY = {"type": "http.response.body", "body": b"", "more_body": False}


class _StreamResponse(Response):
    """Ends with its frames, on disconnect, shutdown, revocation of the key, or a stalled client."""

    media_type = "text/event-stream"

    def __init__(self, limiter: StreamLimiter, frames: AsyncGenerator[bytes]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._limiter = limiter
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = self._limiter.closed
        with self._limiter.acquire():
            sending = asyncio.create_task(self._send_all(send))
            revoked = asyncio.create_task(_wait_for_revocation(current_check()))
            disconnected = asyncio.create_task(until_left(receive))
            closing = asyncio.create_task(closed.wait())
            tasks: list[asyncio.Task[Any]] = [sending, revoked, disconnected, closing]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if closed.is_set():  # let the frames end, unless the client stalls
                    await asyncio.wait([sending], timeout=CLOSE_SECONDS)
            finally:
                await end_tasks(*tasks)
            with contextlib.suppress(asyncio.CancelledError, OSError):
                sending.result()
            if sending.cancelled() and not revoked.cancelled():
                await send(_END_OF_BODY)  # a client that reconnects learns why

    async def _send_all(self, send: Send) -> None:
        stall_seconds = self._limiter.limits.stall_seconds
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    async with asyncio.timeout(stall_seconds):
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
        except TimeoutError:
            logger.info("an event stream's client read nothing for %.0f s", stall_seconds)
            return
        await send(_END_OF_BODY)


async def _wait_for_revocation(check: Check) -> None:
    while True:
        await asyncio.sleep(KEY_CHECK_SECONDS)
        try:
            await check()
        except DatabaseUnavailable:
            continue
        except RegistryError:
            return
