"""A real HTTP server that takes webhooks and answers as it is told."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import standardwebhooks
from fastapi import FastAPI, Request, Response

from tests.support.servers.asgi_server import serving

PATIENCE_SECONDS = 20


@dataclass
class Answer:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_seconds: float = 0.0


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """The content, if the signature is right: the library of the standard says so."""
        content: dict[str, Any] = standardwebhooks.Webhook(secret).verify(self.body, self.headers)
        return content


@dataclass
class Receiver:
    """Answers each request with the next of `answers`, then with `otherwise`."""

    url: str = ""
    answers: deque[Answer] = field(default_factory=deque)
    otherwise: Answer = field(default_factory=Answer)
    received: list[Received] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def take(self, request: Request) -> Response:
        body = await request.body()
        self.received.append(Received(request.url.path, dict(request.headers), body))
        answer = self.answers.popleft() if self.answers else self.otherwise
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(answer.delay_seconds)
        finally:
            self.at_once -= 1
        return Response(answer.body, answer.status, answer.headers)

    async def has(self, count: int) -> list[Received]:
        """Wait for so many messages."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.received) < count:
                await asyncio.sleep(0.01)
        return self.received


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = FastAPI()
    app.add_api_route("/{path:path}", receiver.take, methods=["GET", "POST"])
    async with serving(app, port) as url:
        receiver.url = f"{url}/hooks"
        yield receiver


async def add(client: httpx.AsyncClient, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    """Ask that the receiver is told of events."""
    response = await client.post("/webhooks", json={"url": receiver.url, **fields})
    assert response.status_code == 201, response.text
    added: dict[str, Any] = response.json()
    return added
