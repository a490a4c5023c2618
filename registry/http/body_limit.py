"""Body limit middleware (ASGI): bounds request bodies in bytes, time, JSON depth and memory."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.begun import Begun
from registry.errors import BodyTimeout, BodyTooLarge, RegistryError
from registry.http.body_memory import BodyMemory, BodyShare
from registry.http.headers import find_header, index_headers
from registry.http.json_shape import check_json
from registry.http.problems import send_error
from registry.http.response_head import add_to_head

BYTES_PER_SECOND = 16 * 1024
"""Slowest accepted rate of a body, after its initial timeout."""

_SLOW_SECONDS = 5.0
_SLOW_BYTES_PER_SECOND = 2**20
"""Who is slower, after these seconds, is given up for others once the memory is used up."""


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """`streamed`: the application reads it in chunks and handles what `receive` raises.

    `in_memory` False: it keeps no more of it than a chunk.
    """

    max_bytes: int
    streamed: bool = False
    in_memory: bool = True


LimitOf = Callable[[Scope], BodyLimit]

_CLOSE = ((b"connection", b"close"),)


class BodyLimitMiddleware:
    """Rejects early: a body whose declared length is too large before any byte of it is read.

    A body that is not streamed is read completely before the application is called.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit_of: LimitOf,
        timeout_seconds: float,
        memory: BodyMemory | None = None,
    ) -> None:
        """`memory` None: an ingress has bounded it."""
        self._app = app
        self._limit_of = limit_of
        self._timeout_seconds = timeout_seconds
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope)
        memory = self._memory if limit.in_memory else None
        body = BoundedBody(scope, receive, limit.max_bytes, self._timeout_seconds, memory)
        try:
            if limit.streamed:
                await self._app(scope, body.receive, close_connection_early(scope, send, body))
            else:
                await self._read_first(body, scope, receive, send)
        finally:
            body.give_back()

    async def _read_first(
        self, body: "BoundedBody", scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            content = await body.all()
            if content is not None and _is_json(scope):
                await check_json(content, is_utf8=False)
        except RegistryError as error:
            await send_error(scope, close_connection_early(scope, send, body), error)
            return
        if content is not None:  # None: the client disconnected
            await self._app(scope, replay(content, receive), send)


class BoundedBody:
    """`receive` for one request; raises BodyTooLarge, BodyMemoryFull or BodyTimeout at its limits.

    Implements `BodyReader`.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        max_bytes: int,
        timeout_seconds: float,
        memory: BodyMemory | None = None,
    ) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._length = find_header(scope, b"content-length") or ""
        self._size_bytes = 0
        self._waited_seconds = 0.0
        self._waits_since: float | None = None
        self._wait: asyncio.Timeout | None = None
        self._is_given_up = False
        self._share = None if memory is None else memory.share(self)
        self.ended = False

    def receive(self) -> Awaitable[Message]:
        """Receive a message. Only the time waited for the client counts."""
        return self._receive() if self.ended else self._receive_bounded()

    async def _receive_bounded(self) -> Message:
        if not self._size_bytes and self._declares_too_much():
            raise BodyTooLarge(self._max_bytes)
        if self._is_given_up:
            raise BodyTimeout
        if self._share is not None and not self._size_bytes and self._length.isdecimal():
            self._share.grow_to(int(self._length))
        begun = Begun(self._receive())
        message = begun.result if begun.is_done else await self._wait_for(begun)
        self._size_bytes += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        if self._size_bytes > self._max_bytes:
            self.ended = False  # the rest is not read
            raise BodyTooLarge(self._max_bytes)
        if self._share is not None:
            self._count(self._share)
        return message

    def _count(self, share: BodyShare) -> None:
        """Of a body without a declared length, as it comes."""
        if self._size_bytes > share.size_bytes:
            try:
                share.grow_to(self._size_bytes)
            except RegistryError:
                self.ended = False
                raise
        if self.ended:
            share.end_reading()

    async def _wait_for(self, message: Awaitable[Message]) -> Message:
        self._waits_since = time.monotonic()
        try:
            async with asyncio.timeout(self._left_seconds()) as self._wait:
                return await message
        except TimeoutError:
            raise BodyTimeout from None
        finally:
            self._waited_seconds += time.monotonic() - self._waits_since
            self._waits_since = self._wait = None

    async def all(self) -> bytes | None:
        """The whole body; None if the client disconnected first."""
        chunks: list[bytes] = []
        while not self.ended:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
        return b"".join(chunks)

    def give_back(self) -> None:
        """At the end of its request: the memory that it took."""
        share, self._share = self._share, None  # which refers to this: a cycle
        if share is not None:
            share.give_back()

    def is_slow(self) -> bool:
        waited = self._waited_seconds
        if self._waits_since is not None:
            waited += time.monotonic() - self._waits_since
        return waited > _SLOW_SECONDS and self._size_bytes < waited * _SLOW_BYTES_PER_SECOND

    def give_up(self) -> None:
        """Its reader gets a BodyTimeout."""
        self._is_given_up = True
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    def _declares_too_much(self) -> bool:
        length = self._length
        return length.isdecimal() and (len(length) > 18 or int(length) > self._max_bytes)

    def _left_seconds(self) -> float:
        allowed = self._timeout_seconds + self._size_bytes / BYTES_PER_SECOND
        return max(allowed - self._waited_seconds, 0.0)


def close_connection_early(scope: Scope, send: Send, body: BoundedBody) -> Send:
    """Close the connection of a client that is answered before it has sent its whole body."""
    return add_to_head(scope, send, lambda _: () if body.ended else _CLOSE)


def replay(content: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body once, then the server's next messages."""
    given = False

    def receive_once() -> Awaitable[Message]:
        nonlocal given
        if given:
            return receive()
        given = True
        return _whole_body(content)

    return receive_once


async def _whole_body(content: bytes) -> Message:
    return {"type": "http.request", "body": content, "more_body": False}


def _has_body(scope: Scope) -> bool:
    headers = index_headers(scope)
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def _is_json(scope: Scope) -> bool:
    """Whether to check it as JSON: some routes parse JSON of any content type."""
    kind = (find_header(scope, b"content-type") or "").lower()
    return not kind.startswith(("multipart/", "application/x-tar"))
