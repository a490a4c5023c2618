"""ASGI call: one request to an application in this process, whose messages are streamed.

One that sends nothing for too long is given up: no reader waits for it without an end.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.types import ASGIApp, Message

from engine.errors import AnswerTimeout
from fleet.cut_answer import end_answer
from fleet.messages import Messages

_DISCONNECT_SECONDS = 30.0  # for an application to end after its client has left
MOST_UNREAD_BYTES = 2**20
"""So much is taken of an application whose client does not read: then it has to wait."""


class AsgiCall:
    """Acts as the application's client, which disconnects when `messages` is closed."""

    def __init__(
        self,
        application: ASGIApp,
        scope: Mapping[str, Any],
        body: bytes,
        *,
        silent_seconds: float,
    ) -> None:
        self._application = application
        self._silent_seconds = silent_seconds
        self._head: Message | None = None
        self._last = b""  # part of its body
        self._scope = {**scope, "state": {}}
        self._body: bytes | None = body
        self._pending: list[Message] = []
        self._unread_bytes = 0
        self._sent = asyncio.Event()
        self._taken = asyncio.Event()
        self._is_complete = False  # what it does from here on is behind its answer
        self._left = asyncio.Event()

    async def messages(self) -> AsyncGenerator[Messages]:
        """Batches of the messages sent since the last one. Raises what the application raises."""
        task = asyncio.create_task(self._run())
        try:
            while not task.done() or self._pending:
                if not await self._has_sent():
                    error = AnswerTimeout(self._silent_seconds)
                    yield await end_answer(error, self._scope["path"], self._head, self._last)
                    return
                self._sent.clear()
                if self._pending:
                    yield self._take()
            await task
        finally:
            self._left.set()
            self._taken.set()
            if not task.done():
                await self._end(task)

    async def _has_sent(self) -> bool:
        """False if nothing came in time."""
        try:
            async with asyncio.timeout(None if self._is_complete else self._silent_seconds):
                await self._sent.wait()
        except TimeoutError:
            return False
        return True

    def _take(self) -> Messages:
        batch, self._pending, self._unread_bytes = self._pending, [], 0
        self._taken.set()
        return batch

    async def _end(self, task: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait([task], timeout=_DISCONNECT_SECONDS)
        finally:
            task.cancel()

    async def _run(self) -> None:
        try:
            await self._application(self._scope, self._receive, self._send)
        finally:
            # by the time that the reader looks, this task is done
            asyncio.get_running_loop().call_soon(self._sent.set)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = message
        elif message["type"] == "http.response.body":
            self._is_complete = not message.get("more_body", False)
            self._last = message.get("body", b"") or self._last
        if self._left.is_set():
            return
        self._pending.append(message)
        self._unread_bytes += len(message.get("body", b""))
        self._sent.set()
        while self._unread_bytes >= MOST_UNREAD_BYTES and not self._left.is_set():
            self._taken.clear()
            await self._taken.wait()
