"""Event stream: the log as Server-Sent Events, one page in memory at a time."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from starlette.responses import Response

from registry.auth.caller import current_caller
from registry.errors import DatabaseUnavailable
from registry.events.log import EventLog, RecordedEvent
from registry.events.repository import EventFilter
from registry.events.schemas import event_read
from registry.events.watermark import EventWatermark, wait_for
from registry.http.sse import (
    CLOSE_SECONDS,
    HEARTBEAT,
    StreamLimiter,
    StreamLimits,
    event_frame,
    opening_frame,
    position_frame,
)

_PAGE = 100
_POLL_SECONDS = 0.2


class EventStreams:
    """Opens streams, up to a limit."""

    def __init__(self, log: EventLog, limits: StreamLimits | None = None) -> None:
        self._log = log
        self.limiter = StreamLimiter(limits or StreamLimits(), log.watermark.closed)

    async def response(self, filters: EventFilter, after: int | None) -> Response:
        """Events after an id; new events, if None. Raises TooManyStreams, DatabaseUnavailable."""
        self.limiter.check()
        if after is None:
            after = await self._log.watermark.catch_up(CLOSE_SECONDS)
            self.limiter.check()  # others may have come meanwhile
        frames = self._frames(filters, after, current_caller().is_platform)
        return self.limiter.response(frames)

    async def _frames(
        self, filters: EventFilter, after: int, with_address: bool
    ) -> AsyncGenerator[bytes]:
        watermark, heartbeat_seconds = self._log.watermark, self.limiter.limits.heartbeat_seconds
        yield opening_frame(after)
        quiet_since = time.monotonic()
        while not watermark.closed.is_set():
            settled = watermark.position
            try:
                events = await self._log.between(after, settled, filters, _PAGE)
            except DatabaseUnavailable:
                yield _heartbeat(filters, after)  # keeps the connection alive
                await wait_for(watermark.closed, heartbeat_seconds / 10)
                continue
            if events:
                yield b"".join(_message(event, with_address) for event in events)
                quiet_since = time.monotonic()
            if len(events) == _PAGE:
                after = events[-1].id
                continue
            after = max(after, settled)
            is_due_in = quiet_since + heartbeat_seconds - time.monotonic()
            if not await watermark.wait_beyond(after, max(is_due_in, 0)) or is_due_in <= 0:
                yield _heartbeat(filters, after)
                quiet_since = time.monotonic()


def _heartbeat(filters: EventFilter, after: int) -> bytes:
    """A tenant must not learn the log's position, which counts other tenants' events."""
    return position_frame(after) if filters.tenant is None else HEARTBEAT


def _message(recorded: RecordedEvent, with_address: bool) -> bytes:
    return event_frame(
        recorded.id, event_read(recorded, with_address=with_address).model_dump_json()
    )


async def close_with_server(watermark: EventWatermark, is_stopping: Callable[[], bool]) -> None:
    """Close the watermark once the HTTP server stops, which would wait for the streams."""
    while not (watermark.closed.is_set() or is_stopping()):
        await asyncio.sleep(_POLL_SECONDS)
    watermark.close()
