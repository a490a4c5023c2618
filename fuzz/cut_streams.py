"""Middleware that ends event streams early, for clients that read a response to its end."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

STREAM_SECONDS = 0.1


class CutStreams:
    """An ASGI middleware. The application sees a disconnected client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/stream"):
            await self._app(scope, receive, send)
            return
        started = ended = False

        async def send_until_cut(message: Message) -> None:
            nonlocal started, ended
            started = True
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        async def left() -> Message:
            if started:
                await asyncio.sleep(STREAM_SECONDS)
                return {"type": "http.disconnect"}
            return await receive()

        await self._app(scope, left, send_until_cut)
        if started and not ended:
            await send({"type": "http.response.body", "body": b""})
