"""The event log as Server-Sent Events (WHATWG HTML, section 9.2), one page in memory at a time."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from registry.errors import DatabaseUnavailable, TooManyStreams
from registry.event_feed import EventFeed, wait_for
from registry.event_log import EventLog, RecordedEvent
from registry.event_repository import EventFilter
from registry.event_schemas import event_read

logger = logging.getLogger(__name__)

_PAGE = 100
_RECONNECT_MS = 2000
_LAST_WORDS_SECONDS = 1.0
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """A reader who takes nothing for `stall_seconds` is let go: it may come back and resume."""

    max_streams: int = 100
    heartbeat_seconds: float = 15.0
    stall_seconds: float = 60.0


class EventStreams:
    """Opens streams, so many at a time."""

    def __init__(self, log: EventLog, limits: StreamLimits | None = None) -> None:
        self._log = log
        self._limits = limits or StreamLimits()
        self.open = 0

    async def response(self, filters: EventFilter, after: int | None) -> Response:
        """Everything after an event; after now, if None. Raises TooManyStreams, …Unavailable."""
        if self.open >= self._limits.max_streams:
            raise TooManyStreams(self._limits.max_streams)
        if after is None:
            after = await self._log.feed.catch_up(_LAST_WORDS_SECONDS)
        return _StreamResponse(self, self._frames(filters, after), self._limits.stall_seconds)

    @contextmanager
    def counted(self) -> Iterator[asyncio.Event]:
        """Holds a place; gives what is set when all streams have to end."""
        self.open += 1
        try:
            yield self._log.feed.closed
        finally:
            self.open -= 1

    async def _frames(self, filters: EventFilter, after: int) -> AsyncGenerator[bytes]:
        feed = self._log.feed
        yield f"retry: {_RECONNECT_MS}\n".encode() + _position(after)
        while not feed.closed.is_set():
            settled = feed.settled
            try:
                events = await self._log.between(after, settled, filters, _PAGE)
            except DatabaseUnavailable:
                yield _position(after)  # the client should know that we are there
                await wait_for(feed.closed, self._limits.heartbeat_seconds / 10)
                continue
            if events:
                yield b"".join(map(_message, events))
            if len(events) == _PAGE:
                after = events[-1].id
                continue
            after = max(after, settled)
            if not await feed.wait_beyond(after, self._limits.heartbeat_seconds):
                yield _position(after)


def _message(recorded: RecordedEvent) -> bytes:
    return f"id: {recorded.id}\ndata: {event_read(recorded).model_dump_json()}\n\n".encode()


def _position(after: int) -> bytes:
    """No event, but the client's `Last-Event-ID` from now on, and a sign of life."""
    return f"id: {after}\n: alive\n\n".encode()


class _StreamResponse(Response):
    """Ends with the frames, with the client, with the server, or with a client that stalls."""

    media_type = "text/event-stream"

    def __init__(
        self, streams: EventStreams, frames: AsyncGenerator[bytes], stall_seconds: float
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._streams = streams
        self._frames = frames
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.counted() as closed:
            sending = asyncio.create_task(self._send_all(send))
            tasks = [sending, *map(asyncio.create_task, (_gone(receive), _set(closed)))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if closed.is_set():  # the frames end by themselves, unless the client takes none
                    await asyncio.wait([sending], timeout=_LAST_WORDS_SECONDS)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(asyncio.CancelledError, OSError):
                sending.result()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    async with asyncio.timeout(self._stall_seconds):
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
        except TimeoutError:
            logger.info("a reader of events took nothing for %.0f s", self._stall_seconds)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def close_with_server(feed: EventFeed, is_stopping: Callable[[], bool]) -> None:
    """Close the feed once the HTTP server stops: it waits for the streams, and they for events."""
    while not (feed.closed.is_set() or is_stopping()):
        await asyncio.sleep(_LOOK_SECONDS)
    feed.close()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _set(event: asyncio.Event) -> None:
    await event.wait()
