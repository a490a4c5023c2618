"""Answers that stop: each wait for a stock server or a replica ends, and its client is told.

The stock server is a real one on a socket, which answers a part and then stands still.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.policy import CachePolicy
from engine.settings import EngineSettings
from fleet.replica.asgi_call import AsgiCall
from fleet.stock.accounts import StockAccounts
from fleet.stock.application import StockApplication
from fleet.stock.client import StockVllm
from tests.support.cache.controller_harness import Recorder, adapter
from tests.support.cache.empty_model_list import empty_model_list
from tests.support.cache.request_tally import RequestTally
from tests.support.cache.resolvers import OneAdapter

A = adapter(1)
SILENT_SECONDS = 0.2
CODE = "answer_timeout"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
STREAM = HEAD % b"text/event-stream" + b"transfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices": []}\n\n'
JSON = HEAD % b"application/json" + b"content-length: 1000\r\n\r\n"


@asynccontextmanager
async def server_that_stops_after(content: bytes) -> AsyncIterator[str]:
    """Its URL. It sends `content`, and then nothing until its client has left."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(content)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Client:
    """Of one request, which it stays with."""

    def __init__(self, model: str = "a1", path: str = "/v1/completions") -> None:
        self.scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        self.body = json.dumps({"model": model}).encode()
        self.got: list[Message] = []
        self._asked = False

    async def receive(self) -> Message:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        self.got.append(message)

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)

    @property
    def status(self) -> int:
        return int(self.got[0]["status"])

    @property
    def is_complete(self) -> bool:
        return not self.got[-1].get("more_body", False)


class Stage:
    """The application over a stock server at `url`."""

    def __init__(self, url: str, silent_seconds: float = SILENT_SECONDS) -> None:
        backend = FakeBackend(slots=1, host_capacity=1)
        self.policy = CachePolicy(slots=1, host_capacity=1)
        loader = Loader(backend, UncheckedFiles(), pauses=())
        self.controller = CacheController(self.policy, backend, loader, Recorder())
        self.server = StockVllm(url, None, load_seconds=1, silent_seconds=silent_seconds)
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

    async def ask(self, client: Client) -> None:
        try:
            async with asyncio.timeout(30):
                await self.app(client.scope, client.receive, client.send)
        finally:
            await self.server.close()
            assert self.policy.lease_count(A.id) == 0


@pytest.mark.parametrize("model", ["a1", "base"])
async def test_a_stock_server_that_answers_nothing_is_given_up(model: str) -> None:
    async with server_that_stops_after(b"") as url:
        stage, client = Stage(url), Client(model)
        await stage.ask(client)
    assert (client.status, json.loads(client.text)["error"]["code"]) == (504, CODE)
    assert stage.tally.refusals == [CODE]
    assert stage.tally.outcomes == (["failed"] if model == "a1" else [])


async def test_a_stock_servers_stream_that_stops_ends_with_an_error_event() -> None:
    part = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
    async with server_that_stops_after(STREAM + part) as url:
        stage, client = Stage(url), Client()
        await stage.ask(client)
    events = client.text.split(b"\n\n")
    assert events[0] + b"\n\n" == EVENT
    assert json.loads(events[1].strip().removeprefix(b"data: "))["error"]["code"] == CODE
    assert events[2] == b"data: [DONE]"
    assert client.is_complete
    assert stage.tally.outcomes == ["failed"]


async def test_a_stock_servers_answer_that_stops_is_cut_off() -> None:
    """Its length was declared: only the end of the connection tells."""
    async with server_that_stops_after(JSON + b'{"a":\n') as url:
        stage, client = Stage(url), Client()
        with pytest.raises(ConnectionAbortedError, match="nothing of the answer came"):
            await stage.ask(client)
    assert not client.is_complete
    assert stage.tally.outcomes == ["failed"]


async def test_a_stock_servers_stream_that_breaks_off_ends_with_an_error_event() -> None:
    part = b"%x\r\n%s\r\nzz\r\n" % (len(EVENT), EVENT)  # and no chunk
    async with server_that_stops_after(STREAM + part) as url:
        stage, client = Stage(url), Client()
        await stage.ask(client)
    assert b'"code": "engine_unavailable"' in client.text
    assert client.is_complete


def silent_after(*messages: Message) -> ASGIApp:
    """An application that stands still, deaf to its client's leaving."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        await asyncio.Event().wait()

    return application


def start(kind: bytes) -> Message:
    headers = [(b"content-type", kind)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def call(*messages: Message, path: str = "/v1/completions") -> AsgiCall:
    scope = {"type": "http", "path": path}
    return AsgiCall(silent_after(*messages), scope, b"", silent_seconds=SILENT_SECONDS)


@pytest.fixture
def brief_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.replica.asgi_call._DISCONNECT_SECONDS", 0.05)


@pytest.mark.usefixtures("brief_end")
async def test_a_replica_that_answers_nothing_is_given_up() -> None:
    async with asyncio.timeout(30):
        (batch,) = [batch async for batch in call().messages()]
    assert batch[0]["status"] == 504
    assert json.loads(batch[1]["body"])["error"]["code"] == CODE


@pytest.mark.usefixtures("brief_end")
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/messages"])
async def test_a_replicas_stream_that_stops_ends_with_an_error_event(path: str) -> None:
    begun = call(start(b"text/event-stream; charset=utf-8"), path=path)
    async with asyncio.timeout(30):
        first, last = [batch async for batch in begun.messages()]
    assert first[0]["type"] == "http.response.start"
    assert b"nothing of the answer came for 0.2 s" in last[0]["body"]
    assert (b"event: error" in last[0]["body"]) == (path == "/v1/messages")


@pytest.mark.usefixtures("brief_end")
async def test_a_replicas_answer_that_stops_is_cut_off() -> None:
    with pytest.raises(ConnectionAbortedError):
        async with asyncio.timeout(30):
            assert [b async for b in call(start(b"application/json")).messages()]


async def test_a_replica_may_work_on_behind_its_answer() -> None:
    """As `/v1/responses` does in the background: it is in flight until it ends."""

    async def working_on(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(b"application/json"))
        await send({"type": "http.response.body", "body": b"{}"})
        await asyncio.sleep(3 * SILENT_SECONDS)
        worked.append(True)

    worked: list[bool] = []
    behind = AsgiCall(working_on, {"path": "/"}, b"", silent_seconds=SILENT_SECONDS)
    (batch,) = [batch async for batch in behind.messages()]
    assert [message["type"] for message in batch] == ["http.response.start", "http.response.body"]
    assert worked


def test_a_replica_has_the_time_to_wait_for_a_slot_besides() -> None:
    settings = EngineSettings(slot_timeout_seconds=100, silent_answer_seconds=50)
    assert settings.silent_request_seconds() == 150
