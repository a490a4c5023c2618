"""Tokens of requests to a stock server: as it reports them, and what is sent on to the client."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.policy import CachePolicy
from fleet.stock.accounts import StockAccounts
from fleet.stock.application import StockApplication
from fleet.stock.usage import AnswerUsage, usage_options
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE
from registry.http.rate_limits import with_rates
from registry.rates.caller_rates import uncounted_rates
from tests.support.cache.controller_harness import Recorder, adapter
from tests.support.cache.empty_model_list import empty_model_list
from tests.support.cache.resolvers import OneAdapter

A = adapter(1)
USAGE = {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32}


def event(content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def token(text: str) -> dict[str, Any]:
    return {"model": A.engine_name, "choices": [{"index": 0, "text": text}]}


TOKENS = [event(token("a")), event(token('b "usage" c'))]
END = [event({"model": A.engine_name, "choices": [], "usage": USAGE}), b"data: [DONE]\n\n"]


class Server:
    """Answers each request with the same lines, and fails after them if told to."""

    url = "http://stock"

    def __init__(self, lines: Sequence[bytes], status: int = 200) -> None:
        self.lines = lines
        self.status = status
        self.got: list[Any] = []

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Any]:
        self.got.append(json.loads(body))
        yield SimpleNamespace(
            status_code=self.status, headers=SimpleNamespace(raw=[]), aiter_bytes=self._send
        )

    async def _send(self) -> AsyncIterator[bytes]:
        for line in self.lines:
            yield line


class Counted:
    """What the metrics would count."""

    def __init__(self) -> None:
        self.by_adapter: list[tuple[str, int, int]] = []
        self.by_tenant: list[tuple[str, int, int]] = []
        self.slot_seconds: list[str] = []

    def count_request(self, adapter: str, outcome: str, seconds: float) -> None:
        """Not looked at."""

    def count_refusal(self, code: str) -> None:
        raise AssertionError(code)

    def count_tokens(self, name: str, prompt: int, generation: int) -> None:
        known = self.by_tenant if name == "acme" else self.by_adapter
        known.append((name, prompt, generation))

    def count_slot_seconds(self, tenant: str, seconds: float) -> None:
        self.slot_seconds.append(tenant)


class Stage:
    def __init__(self, lines: Sequence[bytes], status: int = 200) -> None:
        backend = FakeBackend(slots=1, host_capacity=1)
        policy = CachePolicy(slots=1, host_capacity=1)
        loader = Loader(backend, UncheckedFiles(), pauses=())
        self.server, self.counted = Server(lines, status), Counted()
        self.app = StockApplication(
            self.server,  # type: ignore[arg-type]  # a stand-in
            CacheController(policy, backend, loader, Recorder()),
            OneAdapter(A),
            self.counted,
            base_models=["base"],
            models=empty_model_list(OneAdapter(A)),
            accounts=StockAccounts(self.counted, self.counted),
            max_body_bytes=10_000,
            stalled_reader_seconds=60,
        )

    async def ask(self, path: str = "/v1/completions", **body: Any) -> tuple[bytes, int | None]:
        """What the client gets, and the tokens that its rate was charged with."""
        sent, rates, is_read = b"", uncounted_rates(), asyncio.Event()

        async def receive() -> Message:
            if is_read.is_set():
                await asyncio.Event().wait()
            is_read.set()
            content = json.dumps({"model": "a1", **body}).encode()
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal sent
            sent += message.get("body", b"")

        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        with as_caller(Caller("acme~app", EVERY_SCOPE)):
            await self.app(with_rates(scope, rates), receive, send)
        return sent, rates.used("tokens")


def as_client_sees(lines: Sequence[bytes], model: str = "a1") -> bytes:
    return b"".join(lines).replace(A.engine_name.encode(), model.encode())


@pytest.mark.parametrize("model", ["a1", "base"])
async def test_a_stream_is_counted_by_the_server_and_its_client_sees_no_more_than_it_asked_for(
    model: str,
) -> None:
    stage = Stage([*TOKENS, *END])
    got, charged = await stage.ask(model=model, stream=True)
    assert stage.server.got[0]["stream_options"] == {"include_usage": True}
    assert got == (
        as_client_sees([*TOKENS, END[1]]) if model == "a1" else b"".join([*TOKENS, END[1]])
    )
    assert charged == 32
    assert stage.counted.by_tenant == [("acme", 30, 2)]
    assert stage.counted.by_adapter == ([(A.adapter, 30, 2)] if model == "a1" else [])
    assert stage.counted.slot_seconds == (["acme"] if model == "a1" else [])


async def test_who_asks_for_usage_gets_it() -> None:
    stage = Stage([*TOKENS, *END])
    options = {"include_usage": True, "continuous_usage_stats": False}
    got, charged = await stage.ask(stream=True, stream_options=options)
    assert stage.server.got[0]["stream_options"] == options
    assert got == as_client_sees([*TOKENS, *END])
    assert charged == 32


@pytest.mark.parametrize(
    ("path", "answer", "charged"),
    [
        ("/v1/completions", {"choices": [{"text": "x"}], "usage": USAGE}, 32),
        ("/v1/responses", {"usage": {"input_tokens": 5, "output_tokens": 6}}, 11),
        ("/v1/messages", {"usage": {"input_tokens": 7, "output_tokens": 1}}, 8),
        ("/v1/embeddings", {"data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}, 9),
        ("/tokenize", {"tokens": [1, 2, 3]}, 0),
    ],
)
async def test_whole_answers_are_counted_by_their_usage(
    path: str, answer: dict[str, Any], charged: int
) -> None:
    content = json.dumps(answer).encode()
    stage = Stage([content[:10], content[10:]])
    assert await stage.ask(path) == (content, charged)
    assert "stream_options" not in stage.server.got[0]


@pytest.mark.parametrize(
    ("path", "events", "charged"),
    [
        ("/v1/responses", [{"type": "x"}, {"response": {"usage": {"input_tokens": 5}}}], 5),
        ("/v1/messages", [{"usage": {"input_tokens": 5, "output_tokens": 0}}], 5),
    ],
)
async def test_streams_that_report_on_their_own_are_passed_on_whole(
    path: str, events: list[dict[str, Any]], charged: int
) -> None:
    stage = Stage([event(each) for each in events])
    got, used = await stage.ask(path, stream=True)
    assert got == b"".join(event(each) for each in events)
    assert used == charged


async def test_what_the_server_refuses_costs_nothing() -> None:
    stage = Stage([b'{"error": {"message": "no"}}'], status=400)
    assert (await stage.ask())[1] == 0
    assert stage.counted.by_tenant == []


def test_an_answer_that_is_cut_short_is_estimated_by_what_came() -> None:
    usage = AnswerUsage("/v1/completions", 400, hides=True)
    usage.begin(200)
    for line in TOKENS:
        usage.read(line)
    work = usage.work()
    assert work is not None
    assert (work.prompt_tokens, work.generated_tokens) == (100, 2)


def test_the_hidden_event_leaves_no_blank_line_however_it_is_cut() -> None:
    whole = b"".join([*TOKENS, *END])
    lines = whole.splitlines(keepends=True)
    for pieces in ([whole], lines, [b"".join(lines[:5]), b"".join(lines[5:])]):
        usage = AnswerUsage("/v1/completions", 1, hides=True)
        usage.begin(200)
        assert b"".join(usage.read(piece) for piece in pieces) == b"".join([*TOKENS, END[1]])
        usage.end()
        work = usage.work()
        assert work is not None
        assert (work.prompt_tokens, work.generated_tokens) == (30, 2)


@pytest.mark.parametrize(
    "members",
    [{}, {"stream": False}, {"stream": 1}, {"stream": True, "stream_options": [1]}],
)
def test_a_request_that_is_no_stream_is_left_as_it_is(members: dict[str, Any]) -> None:
    assert usage_options("/v1/completions", members) == {}
    assert usage_options("/v1/responses", {"stream": True}) == {}
