"""A stock server that lost an adapter, and what it is asked: a real client before a real socket.

The server is told what to answer; cache, backend and client are the real ones.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.fake_backend import UncheckedFiles
from engine.policy.policy import CachePolicy
from fleet.stock.accounts import StockAccounts
from fleet.stock.application import StockApplication
from fleet.stock.backend import StockBackend
from fleet.stock.client import StockVllm
from tests.support.cache.controller_harness import Recorder, adapter
from tests.support.cache.empty_model_list import empty_model_list
from tests.support.cache.request_tally import RequestTally
from tests.support.cache.resolvers import OneAdapter
from tests.support.servers.scripted_http import Answers, answering

A = adapter(1)
LOAD, COMPLETIONS = "/v1/load_lora_adapter", "/v1/completions"
BASE = {"data": [{"id": "base"}]}
LOST = {"error": {"message": f"The model `{A.engine_name}` does not exist.", "code": 404}}


class Front:
    def __init__(self, url: str) -> None:
        self.server = StockVllm(url, None, load_seconds=5, silent_seconds=5)
        backend = StockBackend(self.server, slots=1)
        self.policy = CachePolicy(slots=1, host_capacity=1)
        loader = Loader(backend, UncheckedFiles(), pauses=())
        self.controller = CacheController(self.policy, backend, loader, Recorder())
        self.tally = RequestTally()
        self.app = StockApplication(
            self.server,
            self.controller,
            OneAdapter(A),
            self.tally,
            base_models=["base"],
            models=empty_model_list(OneAdapter(A)),
            accounts=StockAccounts(self.tally),
            max_body_bytes=1000,
            stalled_reader_seconds=60.0,
        )

    async def complete(self, **headers: str | bytes) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        sent: Any = [(name.replace("_", "-"), value) for name, value in headers.items()]
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
            body = {"model": "a1", "prompt": "x"}
            return await client.post(COMPLETIONS, json=body, headers=sent)


@pytest.fixture
def stock() -> Iterator[Answers]:
    with answering() as answers:
        yield answers


@asynccontextmanager
async def front_of(stock: Answers) -> AsyncIterator[Front]:
    front = Front(stock.url)
    try:
        async with asyncio.timeout(30):
            yield front
    finally:
        await front.server.close()


async def test_an_adapter_that_the_server_lost_is_loaded_again(stock: Answers) -> None:
    """Somebody unloaded it there, or the server was started again between two looks at it."""
    async with front_of(stock) as front:
        stock.will_say(200, b"Success")
        stock.will_say(404, LOST)
        stock.will_say(200, BASE)
        lost = await front.complete()
        assert (lost.status_code, lost.json()["error"]["code"]) == (503, "engine_unavailable")
        assert "has lost a1:1" in lost.json()["error"]["message"]
        assert not front.policy.in_host(A.id)
        stock.will_say(200, b"Success")
        stock.will_say(200, {"model": A.engine_name})
        again = await front.complete()
    assert (again.status_code, again.json()) == (200, {"model": "a1"})
    assert front.tally.outcomes == ["failed", "completed"]
    asked = [path for _, path, _ in stock.asked]
    assert asked == [LOAD, COMPLETIONS, "/v1/models", LOAD, COMPLETIONS]


async def test_any_other_404_is_the_servers_answer(stock: Answers) -> None:
    """Such as that of a route which its model does not have."""
    async with front_of(stock) as front:
        stock.will_say(200, b"Success")
        stock.will_say(404, {"detail": "Not Found"})
        answer = await front.complete()
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    assert front.tally.outcomes == ["refused"]


async def test_header_values_are_passed_on_byte_for_byte(stock: Answers) -> None:
    """They need not be ASCII: it was an error of ours."""
    value = "größe".encode("latin-1")
    async with front_of(stock) as front:
        stock.will_say(200, b"Success")
        stock.will_say(200, {})
        answer = await front.complete(x_request_id=value, x_secret="mine")
    assert answer.status_code == 200
    sent = stock.headers[-1]
    assert sent["x-request-id"] == "größe"
    assert sent["content-type"] == "application/json"
    assert sent["accept-encoding"] == "identity"
    assert "x-secret" not in sent
