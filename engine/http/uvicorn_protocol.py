"""uvicorn's HTTP protocol with what it lacks (0.54): limits of a request's head, in bytes and time.

Its parser, httptools, buffers a header of any length, and uvicorn never closes a connection that
sends its head one byte at a time, or that goes on sending a body after the response.
"""

import asyncio
import json
import logging
import weakref
from asyncio import TimerHandle, Transport
from dataclasses import dataclass
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from engine.gateway.openai_errors import openai_error
from engine.http.standard_protocol import StandardHttpProtocol
from engine.settings import EngineSettings

logger = logging.getLogger(__name__)

LINGER_SECONDS = 2.0
"""A client that still sends when its response is complete has so long to read it: a reset would
discard it."""


@dataclass(frozen=True, slots=True)
class HeadLimits:
    max_bytes: int
    max_headers: int
    timeout_seconds: float
    stalled_reader_seconds: float


class _LingeringTransport(Transport):
    """The transport of one response. Closed before the end of the request's body, it lingers."""

    def __init__(
        self, protocol: "GuardedHttpProtocol", cycle: RequestResponseCycle, transport: Transport
    ) -> None:
        super().__init__()
        self._protocol = protocol
        # not the cycle itself, which holds this one: each request would wait for the collector
        self._cycle = weakref.ref(cycle)
        self._transport = transport
        self.write = transport.write  # type: ignore[method-assign]  # called for each token

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        cycle = self._cycle()
        if cycle is not None and cycle.more_body and not self._transport.is_closing():
            self._protocol.linger()
        else:
            self._transport.close()


class HeadTooLarge(Exception):
    """Raised through the parser, which then rejects the connection."""


class GuardedHttpProtocol(StandardHttpProtocol):
    """One connection."""

    limits: ClassVar[HeadLimits]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unparsed_bytes = 0  # since the last complete head or part of a body
        self._headers_of_head = 0  # without those after a body in chunks
        self._head_timer: TimerHandle | None = None
        self._stall_timer: TimerHandle | None = None
        self._discards_input = self._upgraded = False

    # ---- time ----------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_stall_timer()
        super().connection_lost(exc)

    # ---- readers that stand still --------------------------------------------------------

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered: what it does not read piles up."""
        super().pause_writing()
        self._time_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._stop_stall_timer()
        super().resume_writing()

    def _time_reader(self, unread_bytes: int) -> None:
        seconds = self.limits.stalled_reader_seconds
        self._stall_timer = self.loop.call_later(seconds, self._end_if_stalled, unread_bytes)

    def _end_if_stalled(self, unread_before: int) -> None:
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes < unread_before:
            self._time_reader(unread_bytes)
            return
        seconds = self.limits.stalled_reader_seconds
        logger.warning("a client has read nothing for %g s: its connection is closed", seconds)
        self.transport.abort()

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    # ---- other times ---------------------------------------------------------------------

    def handle_websocket_upgrade(self) -> None:
        self._upgraded = True
        self._stop_timer()
        super().handle_websocket_upgrade()

    def linger(self) -> None:
        """Close after `LINGER_SECONDS`; until then discard what the client sends."""
        self._discards_input = True
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        is_unread = self.cycle.response_complete and self.cycle.more_body  # or it is the next one
        if is_unread and not (self._discards_input or self.transport.is_closing()):
            self.loop.call_later(LINGER_SECONDS, self._end_lingering, self.cycle)

    def _end_lingering(self, cycle: object) -> None:
        if self.cycle is cycle:
            self.transport.close()

    def _time_head(self) -> None:
        """Time a head from the connection's start, and each later one from its first byte."""
        if self._is_responding():
            self._stop_timer()
        elif self._head_timer is None and not self._upgraded:
            seconds = self.limits.timeout_seconds
            self._head_timer = self.loop.call_later(seconds, self._on_head_timeout)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self._unparsed_bytes and not self.transport.is_closing():
            self._refuse(408, "header_timeout", "the request's headers did not come in time")
        self.transport.close()

    # ---- bytes ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._discards_input:
            return
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._upgraded or self.transport.is_closing():
            return
        if self._unparsed_bytes:  # within a head, or the end of a body
            too_long = self._unparsed_bytes > self.limits.max_bytes + len(data)
            if too_long or self._has_large_head():
                self._refuse_head()
        self._time_head()

    def on_headers_complete(self) -> None:
        self._unparsed_bytes = 0
        self._headers_of_head = len(self.headers)
        if self._has_large_head():
            raise HeadTooLarge
        super().on_headers_complete()
        if self._is_responding():
            self.cycle.transport = _LingeringTransport(self, self.cycle, self.transport)

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed_bytes = 0
        if len(self.headers) > self._headers_of_head and self._has_large_head():
            raise HeadTooLarge
        super().on_message_complete()

    def _has_large_head(self) -> bool:
        """Whether what has been parsed of it is too large."""
        limits, headers = self.limits, self.headers or ()
        size_bytes = len(self.url or b"")
        for name, value in headers:
            size_bytes += len(name) + len(value)
        return size_bytes > limits.max_bytes or len(headers) > limits.max_headers

    def _is_responding(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    # ---- refusals ------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for anything that its parser rejects."""
        if self._has_large_head():
            self._refuse_head()
        else:
            self._refuse(400, "invalid_http", msg)

    def _refuse_head(self) -> None:
        limits = self.limits
        detail = f"at most {limits.max_bytes} bytes and {limits.max_headers} headers are read"
        self._refuse(431, "headers_too_large", detail)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Respond with the error, unless a response has started: the client would mix them up."""
        self._discards_input = True
        if not (self._is_responding() and self.cycle.response_started):
            self.transport.write(_response(status, code, detail))
        self.transport.close()


def create_http_protocol(settings: EngineSettings) -> type[asyncio.Protocol]:
    """The protocol with the settings' limits, for uvicorn's `http`."""
    limits = HeadLimits(
        settings.max_header_bytes,
        settings.max_headers,
        settings.header_timeout_seconds,
        settings.stalled_reader_seconds,
    )
    return type("LimitedHttpProtocol", (GuardedHttpProtocol,), {"limits": limits})


def _response(status: int, code: str, detail: str) -> bytes:
    body = json.dumps(openai_error(status, code, detail)).encode()
    phrase = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}
    return b"\r\n".join(
        (
            b"HTTP/1.1 %d %s" % (status, phrase[status]),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
            b"",
            body,
        )
    )
