"""One request answered by an application in this process, its messages taken as they come."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.types import ASGIApp, Message

from fleet.messages import Messages

_LEAVING_SECONDS = 30.0  # for an application to end after its client has left


class Exchange:
    """A client to the application. If whoever reads `messages` leaves, so has the client."""

    def __init__(self, application: ASGIApp, scope: Mapping[str, Any], body: bytes) -> None:
        self._application = application
        self._scope = {**scope, "state": {}}
        self._body: bytes | None = body
        self._out: list[Message] = []
        self._news = asyncio.Event()
        self._left = asyncio.Event()

    async def messages(self) -> AsyncGenerator[Messages]:
        """All that are there by then, each time. Raises what the application raises."""
        task = asyncio.create_task(self._run())
        try:
            while not task.done() or self._out:
                await self._news.wait()
                self._news.clear()
                if self._out:
                    taken, self._out = self._out, []
                    yield taken
            await task
        finally:
            self._left.set()
            if not task.done():
                await self._end(task)

    async def _end(self, task: asyncio.Task[None]) -> None:
        await asyncio.wait([task], timeout=_LEAVING_SECONDS)
        task.cancel()

    async def _run(self) -> None:
        try:
            await self._application(self._scope, self._receive, self._send)
        finally:
            # by the time that the reader looks, this task is done
            asyncio.get_running_loop().call_soon(self._news.set)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self._out.append(message)
        self._news.set()
