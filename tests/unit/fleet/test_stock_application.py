"""Application over a stock server: a lease lasts as long as the server's work, not as its reader's.

The server is a stand-in that says how far it was read; the controller is the real one.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.types import Message, Scope

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.policy import CachePolicy
from fleet.stock.accounts import StockAccounts
from fleet.stock.answering import kept_headers, whole_lines
from fleet.stock.application import StockApplication
from fleet.stock.buffered_answer import MOST_BUFFERED_BYTES
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE
from registry.version import adaptry_version
from tests.support.cache.controller_harness import Recorder, adapter
from tests.support.cache.empty_model_list import empty_model_list
from tests.support.cache.request_tally import RequestTally
from tests.support.cache.resolvers import OneAdapter

A = adapter(1)
SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/v1/completions",
    "headers": [(b"content-type", b"application/json")],
}


class Server:
    """Answers when `may_begin` is set, and generates each of `lines` when `may_generate` is."""

    url = "http://stock"

    def __init__(self, lines: Sequence[bytes], kind: bytes, names: str) -> None:
        self.lines: Iterable[bytes] = lines
        self._names = names
        self._kind = kind
        self.may_begin = asyncio.Event()
        self.may_begin.set()
        self.may_generate = asyncio.Event()
        self.may_generate.set()
        self.sent = 0
        self.closed = asyncio.Event()

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> AsyncIterator[Any]:
        assert json.loads(body)["model"] == self._names
        head = SimpleNamespace(raw=[(b"content-type", self._kind)])
        try:
            await self.may_begin.wait()
            yield SimpleNamespace(status_code=200, headers=head, aiter_bytes=self._generate)
        finally:
            self.closed.set()

    async def base_model(self) -> tuple[str, int]:
        return "org/base", 4096

    async def _generate(self) -> AsyncIterator[bytes]:
        for line in self.lines:
            await self.may_generate.wait()
            self.sent += 1
            yield line


class Client:
    """Reads the head, and more once `reads` is set."""

    def __init__(self, body: bytes = b'{"model": "a1"}') -> None:
        self._request = body
        self.reads = asyncio.Event()
        self.leaves = asyncio.Event()
        self.begun = asyncio.Event()
        self.body = b""
        self.is_complete = False
        self._has_sent = False
        self.start: Message = {}

    async def receive(self) -> Message:
        if not self._has_sent:
            self._has_sent = True
            return {"type": "http.request", "body": self._request, "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            self.begun.set()
            return
        await self.reads.wait()
        self.body += message["body"]
        self.is_complete = not message.get("more_body", False)


class Stage:
    def __init__(
        self,
        lines: Sequence[bytes],
        stalled_reader_seconds: float = 60.0,
        kind: bytes = b"application/json",
        names: str = A.engine_name,
    ) -> None:
        backend = FakeBackend(slots=1, host_capacity=1)
        self.policy = CachePolicy(slots=1, host_capacity=1)
        loader = Loader(backend, UncheckedFiles(), pauses=())
        self.controller = CacheController(self.policy, backend, loader, Recorder())
        self.server = Server(lines, kind, names)
        self.tally = RequestTally()
        self.app = StockApplication(
            self.server,  # type: ignore[arg-type]  # a stand-in
            self.controller,
            OneAdapter(A),
            self.tally,
            base_models=["base"],
            models=empty_model_list(OneAdapter(A)),
            accounts=StockAccounts(self.tally),
            max_body_bytes=1000,
            stalled_reader_seconds=stalled_reader_seconds,
        )

    def ask(self, client: Client) -> asyncio.Task[None]:
        return asyncio.create_task(self.app(SCOPE, client.receive, client.send))

    async def force_out(self) -> None:
        running = asyncio.create_task(self.controller.run())
        assert await asyncio.wait_for(self.controller.evict(A, force=True), 30)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def until_idle(self) -> None:
        async with asyncio.timeout(30):
            while self.policy.lease_count(A.id):
                await asyncio.sleep(0.001)


async def test_a_reader_that_stands_still_keeps_no_lease_once_the_server_has_answered() -> None:
    stage, client = Stage([b"one\n", b"two\n"]), Client()
    request = stage.ask(client)
    await asyncio.wait_for(client.begun.wait(), 30)
    await stage.until_idle()
    assert client.body == b""
    assert not request.done()
    client.reads.set()
    await asyncio.wait_for(request, 30)
    assert client.body == b"one\ntwo\n"
    assert client.is_complete
    assert stage.tally.outcomes == ["completed"]


@pytest.mark.parametrize("priority", [b"-1", b"-1.0", b'" -1"'])
async def test_a_tenants_request_goes_before_no_other_there_too(priority: bytes) -> None:
    stage, client = Stage([]), Client(b'{"model": "a1", "priority": %s}' % priority)
    client.reads.set()
    with as_caller(Caller("acme~app", EVERY_SCOPE)):
        await asyncio.wait_for(stage.ask(client), 30)
    assert json.loads(client.body)["error"]["code"] == "priority_not_allowed"
    assert (stage.server.sent, stage.tally.refusals) == (0, ["priority_not_allowed"])


@pytest.mark.parametrize(("tenant", "priority"), [("acme~", b"1"), ("", b"-1")])
async def test_any_other_priority_is_the_stock_servers_matter(tenant: str, priority: bytes) -> None:
    stage, client = Stage([b"one\n"]), Client(b'{"model": "a1", "priority": %s}' % priority)
    client.reads.set()
    with as_caller(Caller(f"{tenant}app", EVERY_SCOPE)):
        await asyncio.wait_for(stage.ask(client), 30)
    assert (client.body, stage.tally.refusals) == (b"one\n", [])


async def test_the_lease_lasts_while_the_server_generates() -> None:
    stage, client = Stage([b"one\n", b"two\n"]), Client()
    stage.server.may_generate.clear()
    client.reads.set()
    request = stage.ask(client)
    await asyncio.wait_for(client.begun.wait(), 30)
    assert stage.policy.lease_count(A.id) == 1
    stage.server.may_generate.set()
    await asyncio.wait_for(request, 30)
    assert stage.policy.lease_count(A.id) == 0


async def test_a_reader_that_stands_still_ends_the_servers_work_in_time() -> None:
    """An answer that doesn't fit into the buffer: the server can't finish, so it is stopped."""
    line = b"x" * (MOST_BUFFERED_BYTES // 4) + b"\n"
    stage, client = Stage([line] * 100, stalled_reader_seconds=0.05), Client()
    request = stage.ask(client)
    await asyncio.wait_for(stage.server.closed.wait(), 30)
    await stage.until_idle()
    assert stage.server.sent < 10, "bounded memory"
    client.reads.set()
    with pytest.raises(ConnectionAbortedError):
        await asyncio.wait_for(request, 30)
    assert not client.is_complete


async def test_a_slow_reader_gets_an_answer_larger_than_the_buffer() -> None:
    line = b"x" * (MOST_BUFFERED_BYTES // 4) + b"\n"
    stage, client = Stage([line] * 20, stalled_reader_seconds=5.0), Client()
    request = stage.ask(client)
    await asyncio.wait_for(client.begun.wait(), 30)
    client.reads.set()
    await asyncio.wait_for(request, 30)
    assert client.body == line * 20


async def test_a_client_that_leaves_ends_the_servers_work_and_the_lease() -> None:
    stage, client = Stage([b"one\n", b"two\n"]), Client()
    stage.server.may_generate.clear()
    request = stage.ask(client)
    await asyncio.wait_for(client.begun.wait(), 30)
    client.leaves.set()
    await asyncio.wait_for(request, 30)
    assert stage.server.closed.is_set()
    assert stage.policy.lease_count(A.id) == 0
    assert stage.tally.outcomes == ["cancelled"]


async def test_a_stream_that_an_operator_ends_says_so_to_its_client() -> None:
    """Only then: a client that does not read must not keep the adapter in its slot."""
    event = b"data: {}\n\n"
    stage, client = Stage([event, event], kind=b"text/event-stream"), Client()
    stage.server.may_generate.clear()
    request = stage.ask(client)
    await asyncio.wait_for(client.begun.wait(), 30)
    await stage.force_out()
    assert stage.server.closed.is_set()
    assert stage.policy.lease_count(A.id) == 0
    assert not request.done()
    client.reads.set()
    await asyncio.wait_for(request, 30)
    told, done, _ = client.body.lstrip().split(b"\n\n")
    assert json.loads(told.removeprefix(b"data: "))["error"]["code"] == "adapter_forced_out"
    assert done == b"data: [DONE]"
    assert client.is_complete
    assert stage.tally.outcomes == ["failed"]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_such_a_stream_ends_in_the_dialect_of_its_route(path: str) -> None:
    stage, client = Stage([], kind=b"text/event-stream"), Client()
    client.reads.set()

    def events() -> Iterator[bytes]:
        yield b'event: a\ndata: {"sequence_number": 4}\n\n'
        stage.server.may_generate.clear()
        yield b"event: b\n"

    stage.server.lines = events()
    request = asyncio.create_task(stage.app({**SCOPE, "path": path}, client.receive, client.send))
    while not client.body:
        await asyncio.sleep(0.001)
    await stage.force_out()
    await asyncio.wait_for(request, 30)
    *_, told, nothing = client.body.split(b"\n\n")
    error = json.loads(told.strip().removeprefix(b"event: error\ndata: "))
    assert (error["error"]["code"], nothing) == ("adapter_forced_out", b"")
    assert error.get("sequence_number") == (5 if path == "/v1/responses" else None)


async def test_what_the_servers_own_operator_ends_is_complete_for_all_that_it_says() -> None:
    """vLLM's `/v1/responses` calls it so, and no member of the response tells."""
    completed = b'event: response.completed\ndata: {"response": {"status": "completed"}}\n\n'
    stage, client = Stage([completed], kind=b"text/event-stream"), Client()
    client.reads.set()
    async with asyncio.timeout(30):
        await stage.app({**SCOPE, "path": "/v1/responses"}, client.receive, client.send)
    assert (client.body, stage.tally.outcomes) == (completed, ["completed"])


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
async def test_to_tokenize_for_an_adapter_is_no_request_of_it(path: str) -> None:
    """As on one server: it has the base model's tokenizer, and waits for no slot."""
    stage, client = Stage([b"{}"], names="base"), Client()
    client.reads.set()
    running = asyncio.create_task(stage.controller.run())
    async with stage.controller.lease(adapter(2)), asyncio.timeout(30):
        await stage.app({**SCOPE, "path": path}, client.receive, client.send)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert (client.start["status"], client.body) == (200, b"{}")
    assert not any(name == b"x-adaptry-version" for name, _ in client.start["headers"])
    assert stage.tally.outcomes == []


async def test_an_answer_that_an_operator_ends_before_it_begins_is_a_503() -> None:
    stage, client = Stage([b"{}\n"]), Client()
    stage.server.may_begin.clear()
    client.reads.set()
    request = stage.ask(client)
    while not stage.policy.lease_count(A.id):
        await asyncio.sleep(0.001)
    await stage.force_out()
    await asyncio.wait_for(request, 30)
    assert client.start["status"] == 503
    assert dict(client.start["headers"])[b"retry-after"] == b"1"
    assert json.loads(client.body)["error"]["code"] == "adapter_forced_out"
    assert stage.tally.outcomes == ["failed"]
    assert stage.tally.refusals == ["adapter_forced_out"]


async def test_an_answer_that_an_operator_ends_in_its_middle_is_cut_off() -> None:
    stage, client = Stage([b"{\n", b"}\n"]), Client()
    stage.server.may_generate.clear()
    client.reads.set()
    request = stage.ask(client)
    await asyncio.wait_for(client.begun.wait(), 30)
    await stage.force_out()
    with pytest.raises(ConnectionAbortedError):
        await asyncio.wait_for(request, 30)
    assert not client.is_complete
    assert stage.policy.lease_count(A.id) == 0
    assert stage.tally.outcomes == ["failed"]


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([b'data: {"choices": []}\n', b'\ndata: {"error": {"code": 500}}\n', b"\n"], "failed"),
        ([b'data: {"error": {"code": 400}}\n\n'], "refused"),
        ([b'event: error\ndata: {"error": {"type": "internal_error"}}\n\n'], "failed"),
        ([b"event: error\n", b"data: {}\n\n"], "failed"),
        ([b'data: {"text": "event: error"}\n\n'], "completed"),
    ],
)
async def test_a_stream_counts_by_the_error_that_ends_it(
    lines: Sequence[bytes], outcome: str
) -> None:
    stage, client = Stage(lines, kind=b"text/event-stream"), Client()
    client.reads.set()
    await asyncio.wait_for(stage.ask(client), 30)
    assert client.start["status"] == 200
    assert stage.tally.outcomes == [outcome]


@pytest.mark.parametrize(
    ("method", "url", "known"),
    [
        ("POST", "/v1/completions", "none"),
        ("POST", "/tokenize", "none"),
        ("GET", "/v1/models", "after, client_version, limit"),
        ("GET", "/v1/models/base", "none"),
        ("GET", "/info", "none"),
        ("GET", "/version", "none"),
    ],
)
async def test_a_query_parameter_that_no_route_reads_is_refused_as_on_one_server(
    method: str, url: str, known: str
) -> None:
    transport = httpx.ASGITransport(app=Stage([]).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
        refused = await client.request(method, url, params={"levle": "2"})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", "levle")
    assert error["message"] == f"no such query parameter: levle; this route takes {known}"


async def test_what_clients_send_with_everything_and_what_the_list_reads_pass() -> None:
    stage = Stage([b"{}\n"])
    transport = httpx.ASGITransport(app=stage.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
        body = {"model": "a1", "prompt": "x"}
        passed = await client.post("/v1/completions?api-version=2026-01-01", json=body)
        assert passed.status_code == 200
        assert (await client.get("/v1/models?limit=5&client_version=0.133")).status_code == 200
        assert (await client.get("/no/such/route?x=1")).status_code == 404


async def test_info_is_what_tgis_clients_read_of_the_servers_base_model() -> None:
    transport = httpx.ASGITransport(app=Stage([]).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
        found = (await client.get("/info")).json()
    lengths = [found[f"max_{name}"] for name in ("input_tokens", "input_length", "total_tokens")]
    assert (found["model_id"], lengths) == ("org/base", [4095, 4095, 4096])
    assert (found["version"], found["router"]) == (adaptry_version(), "adaptry")


async def test_a_long_line_in_many_pieces_takes_no_more_than_its_bytes() -> None:
    """Each piece was copied with all before it: 32 MB of embeddings held all others up for 5 s."""
    count, piece = 1_000_000, b"0.123456, 0.1234"

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one\ntwo"
        for _ in range(count):
            yield piece

    lines = [line async for line in whole_lines(pieces())]
    assert lines[0] == b"one\n"
    assert (len(lines), lines[1] == b"two" + piece * count) == (2, True)


def test_headers_of_the_servers_connection_end_with_it() -> None:
    """The answer is sent on decoded, over a connection of its own."""
    of_connection = [
        *((b"Connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"Keep-Alive", b"timeout=5")),
        *((b"Transfer-Encoding", b"chunked"), (b"Content-Encoding", b"gzip")),
        *((b"Content-Length", b"5"), (b"date", b"now"), (b"Server", b"uvicorn")),
        *((b"upgrade", b"h2c"), (b"Trailer", b"x"), (b"proxy-connection", b"close")),
    ]
    ours = [(b"Content-Type", b"application/json"), (b"x-request-id", b"7")]
    assert kept_headers([*of_connection, *ours]) == ours
    assert kept_headers(ours) == ours


@pytest.mark.parametrize("member", ["background", "previous_response_id"])
async def test_what_a_stock_server_would_store_is_refused(member: str) -> None:
    """Its work behind the answer would have no lease, and anyone could go on with a response."""
    stage = Stage([b"{}"])
    body = {"model": "a1", "input": "x", member: "resp_1" if "id" in member else True}
    client = Client(json.dumps(body).encode())
    client.reads.set()
    async with asyncio.timeout(10):
        await stage.app({**SCOPE, "path": "/v1/responses"}, client.receive, client.send)
    assert client.start["status"] == 400
    error = json.loads(client.body)["error"]
    assert error["code"] == "response_unsupported"
    assert member in error["message"]
    assert stage.server.sent == 0


async def test_a_client_that_leaves_the_queue_keeps_no_place_in_it() -> None:
    """Its adapter is loaded for nobody, and whoever stands behind it waits for that."""
    stage, client = Stage([b"one\n"]), Client()
    running = asyncio.create_task(stage.controller.run())
    async with stage.controller.lease(adapter(2)), asyncio.timeout(30):
        request = stage.ask(client)
        while not len(stage.policy.wait_queue):
            await asyncio.sleep(0.001)
        client.leaves.set()
        await request
        assert not len(stage.policy.wait_queue)
    assert (stage.server.sent, stage.tally.outcomes) == (0, ["cancelled"])
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
