"""ASGI call: one request to an application in this process, whose messages are streamed."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.types import ASGIApp, Message

from fleet.messages import Messages

_DISCONNECT_SECONDS = 30.0  # for an application to end after its client has left


class AsgiCall:
    """Acts as the application's client, which disconnects when `messages` is closed."""

    def __init__(self, application: ASGIApp, scope: Mapping[str, Any], body: bytes) -> None:
        self._application = application
        self._scope = {**scope, "state": {}}
        self._body: bytes | None = body
        self._pending: list[Message] = []
        self._sent = asyncio.Event()
        self._left = asyncio.Event()

    async def messages(self) -> AsyncGenerator[Messages]:
        """Batches of the messages sent since the last one. Raises what the application raises."""
        task = asyncio.create_task(self._run())
        try:
            while not task.done() or self._pending:
                await self._sent.wait()
                self._sent.clear()
                if self._pending:
                    batch, self._pending = self._pending, []
                    yield batch
            await task
        finally:
            self._left.set()
            if not task.done():
                await self._end(task)

    async def _end(self, task: asyncio.Task[None]) -> None:
        await asyncio.wait([task], timeout=_DISCONNECT_SECONDS)
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
        self._pending.append(message)
        self._sent.set()
