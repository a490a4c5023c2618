"""Ingress without engines or Ray: the proxy in front of fake replicas, with its limits."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.errors import TenantLimitReached
from engine.types import AdapterVersion
from fleet.ingress.proxy import ReplicaProxy
from fleet.ingress.recent_residency import RecentResidency
from fleet.ports import Replicas
from registry.errors import UnknownAdapter
from tests.support.cache.controller_harness import A, B
from tests.support.cache.fake_fleet import FakeReplica, FakeReplicas


class Names:
    """Resolves `a`, which a test may move to another version."""

    def __init__(self) -> None:
        self.means: dict[str, AdapterVersion] = {"a": A, "a1:1": A, "a2:1": B}
        self.asked: list[str] = []

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        self.asked.append(text)
        if text not in self.means:
            raise UnknownAdapter(text)
        return self.means[text]

    async def find(self, text: str) -> AdapterVersion:
        return await self.resolve(text)


class InFlight:
    def __init__(self) -> None:
        self.now = 0
        self.most = 10

    def begin(self) -> Any:
        if self.now >= self.most:
            raise TenantLimitReached("max_requests_in_flight", "too many", retry_after_seconds=1)
        self.now += 1
        return self

    def begin_answer(self) -> None: ...

    def end(self) -> None:
        self.now -= 1


def respond_with(status: int, *bodies: bytes, kind: bytes = b"application/json") -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for body in bodies:
            await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return application


class Ingress:
    """A proxy in front of fake replicas, with its resolver and limits."""

    def __init__(self, *apps: ASGIApp, port: Replicas | None = None) -> None:
        self.replicas = [FakeReplica(f"r{n}", app) for n, app in enumerate(apps)]
        self.names, self.in_flight, self.recent = Names(), InFlight(), RecentResidency()
        self.app = ReplicaProxy(
            port or FakeReplicas(*self.replicas),
            self.names,
            recent=self.recent,
            base_models=frozenset({"demo"}),
            in_flight=self.in_flight,
            max_body_bytes=1000,
            is_complete=self._is_complete,
        )
        self.is_complete = True

    async def _is_complete(self) -> bool:
        return self.is_complete

    async def post(self, content: object = None, **options: Any) -> httpx.Response:
        body = {"model": "a"} if content is None else content
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"} | options.pop("headers", {})
        path = options.pop("path", "/v1/completions")
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.post(path, content=raw, headers=headers)
