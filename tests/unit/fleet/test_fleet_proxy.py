"""A request on its way to a replica and back: resolved once, tried elsewhere, ended in order."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.errors import TenantLimitReached
from engine.gateway.pinned_resolver import ResolvedBefore
from engine.types import AdapterVersion
from fleet.ingress.proxy import Forwarder
from fleet.ingress.recent_residency import Sightings
from fleet.messages import ForwardedRequest
from fleet.placement import Bound
from fleet.ports import Replicas
from fleet.replica.asgi_call import Exchange
from fleet.stock.replicas import StockReplicas
from registry.errors import UnknownAdapter
from tests.support.cache.controller_harness import A, B
from tests.support.cache.fake_fleet import FACTS, FakeReplica, FakeReplicas

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/v1/completions",
    "raw_path": b"/v1/completions",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json")],
}
AWAY = b'{"error": {"code": "engine_unavailable", "message": "the engine does not answer"}}'
BUSY = b'{"error": {"code": "slot_wait_timeout", "message": "no slot"}}'


class Names:
    """Knows `a` and, once it is moved, as another version."""

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

    def begin(self) -> Callable[[], None]:
        if self.now >= self.most:
            raise TenantLimitReached("max_requests_in_flight", "too many", retry_after_seconds=1)
        self.now += 1
        return self._end

    def _end(self) -> None:
        self.now -= 1


def answering(status: int, *bodies: bytes, kind: bytes = b"application/json") -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for body in bodies:
            await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return application


class Entrance:
    """A forwarder before fake replicas, and what it knows."""

    def __init__(self, *apps: ASGIApp, before: Replicas | None = None) -> None:
        self.replicas = [FakeReplica(f"r{n}", app) for n, app in enumerate(apps)]
        self.names, self.in_flight, self.sightings = Names(), InFlight(), Sightings()
        self.app = Forwarder(
            before or FakeReplicas(*self.replicas),
            self.names,
            sightings=self.sightings,
            base_models=frozenset({"demo"}),
            in_flight=self.in_flight,
            max_body_bytes=1000,
        )

    async def ask(self, content: object = None, **options: Any) -> httpx.Response:
        body = {"model": "a"} if content is None else content
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"} | options.pop("headers", {})
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.post("/v1/completions", content=raw, headers=headers)


async def test_the_reference_goes_along_resolved_and_the_answer_names_its_replica() -> None:
    entrance = Entrance(answering(200, b"{}"))
    answer = await entrance.ask()
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["x-adaptry-replica"] == "r0"
    (asked,) = entrance.replicas[0].asked
    assert (asked.version, asked.reference) == (A, "a1:1")
    assert entrance.sightings.of(A.id) == {"r0"}
    await entrance.ask()
    assert entrance.replicas[0].asked[-1].near == {"r0"}
    assert entrance.in_flight.now == 0


@pytest.mark.parametrize("content", [{"model": "demo"}, {"model": "nobody"}, {}, b"{", [1]])
async def test_what_is_no_known_adapter_goes_as_it_came(content: object) -> None:
    entrance = Entrance(answering(200, b"{}"))
    await entrance.ask(content)
    assert entrance.replicas[0].asked[0].version is None


async def test_a_replica_keeps_to_what_was_resolved_before() -> None:
    names = Names()
    meant: list[AdapterVersion] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        meant.append(await ResolvedBefore(names).resolve("a"))
        await answering(200)(scope, receive, send)

    entrance = Entrance(application)
    entrance.names.means["a"] = B  # moved, and this replica has not heard of it
    await entrance.ask()
    assert meant == [B]
    await entrance.ask({"model": "unknown-here"})
    assert meant[-1] == A, "what was not resolved before is resolved there"


@pytest.mark.parametrize("dies_after", [0, None])
async def test_what_one_can_not_begin_to_answer_another_does(dies_after: int | None) -> None:
    entrance = Entrance(answering(503, AWAY), answering(200, b'{"ok": 1}'))
    entrance.replicas[0].dies_after = dies_after
    if dies_after == 0:  # nobody knows by its name who has died: Ray's router does not ask it again
        entrance.replicas[0].dies_after = None
    answer = await entrance.ask()
    assert answer.json() == {"ok": 1}
    assert answer.headers["x-adaptry-replica"] == "r1"
    assert entrance.replicas[1].asked[0].avoid == {"r0"}


async def test_a_replica_that_has_died_is_not_the_end_of_it() -> None:
    entrance = Entrance(answering(200, b"{}"))
    entrance.replicas[0].dies_after = 0
    answer = await entrance.ask()
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_unavailable"
    assert "retry-after" in answer.headers
    assert len(entrance.replicas[0].asked) == 3


async def test_if_all_are_away_the_last_one_s_word_is_the_answer() -> None:
    entrance = Entrance(answering(503, AWAY), answering(503, AWAY))
    answer = await entrance.ask()
    assert (answer.status_code, answer.content) == (503, AWAY)


async def test_another_503_is_an_answer() -> None:
    entrance = Entrance(answering(503, BUSY), answering(200, b"{}"))
    answer = await entrance.ask()
    assert (answer.status_code, answer.content) == (503, BUSY)
    assert entrance.replicas[1].asked == []


async def test_a_stream_that_is_cut_off_ends_with_the_reason() -> None:
    words = [b'data: {"n": 1}\n\n', b'data: {"n": 2}\n\n']
    entrance = Entrance(answering(200, *words, kind=b"text/event-stream; charset=utf-8"))
    entrance.replicas[0].dies_after = 1
    answer = await entrance.ask()
    assert answer.status_code == 200
    events = answer.text.split("\n\n")
    assert json.loads(events[-3].removeprefix("data: "))["error"]["code"] == "engine_unavailable"
    assert events[-2:] == ["data: [DONE]", ""]
    assert len(entrance.replicas[0].asked) == 1, "what has begun is not begun again"


async def test_another_answer_that_is_cut_off_is_not_ended_as_if_it_were_whole() -> None:
    entrance = Entrance(answering(200, b"[1,", b"2]"))
    entrance.replicas[0].dies_after = 1
    with pytest.raises(ConnectionAbortedError):
        await straight(entrance.app)


async def straight(app: ASGIApp) -> None:
    """Without a server between."""
    bodies = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

    async def receive() -> Any:
        return next(bodies)

    async def send(message: Any) -> None:
        assert message["type"] != "http.response.body" or message["more_body"]

    await app(SCOPE, receive, send)


async def test_limits_hold_before_a_replica_is_asked() -> None:
    entrance = Entrance(answering(200, b"{}"))
    entrance.in_flight.most = 0
    answer = await entrance.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "tenant_limit")
    assert (await entrance.ask(b" " * 1001)).status_code == 413
    assert (await entrance.ask(b"\xff")).json()["error"]["code"] == "body_not_text"
    assert entrance.replicas[0].asked == []


async def test_a_form_is_passed_on_as_it_is() -> None:
    entrance = Entrance(answering(200, b"{}"))
    form = {"content-type": "multipart/form-data; boundary=x"}
    await entrance.ask(b"\xff\x00", headers=form)
    assert entrance.replicas[0].asked[0].body == b"\xff\x00"


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Until its client has left."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    left = asyncio.ensure_future(receive())
    while not left.done():
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.001)
    scope["ended"].append(left.result()["type"])


async def test_an_application_is_told_that_its_reader_has_left() -> None:
    ended: list[str] = []
    messages = Exchange(endless, {**SCOPE, "ended": ended}, b"").messages()
    first = await anext(messages)
    assert first[0]["type"] == "http.response.start"
    await messages.aclose()
    assert ended == ["http.disconnect"]


async def test_what_an_application_raises_its_reader_gets() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await anext(Exchange(broken, SCOPE, b"").messages())


async def test_messages_that_wait_come_together() -> None:
    batches = [b async for b in Exchange(answering(200, *[b"x"] * 50), SCOPE, b"").messages()]
    assert sum(map(len, batches)) == 52
    assert ForwardedRequest(SCOPE, b"").reference is None


@pytest.mark.parametrize("model", ["a", "demo"])
async def test_before_any_stock_server_is_there_the_engine_is_unavailable(model: str) -> None:
    entrance = Entrance(before=StockReplicas(["http://none"], FACTS, Bound()))
    answer = await entrance.ask({"model": model})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert entrance.in_flight.now == 0
