"""The proxy: requests are resolved once, retried on another replica, and ended in order."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from engine.errors import SlotWaitTimeout
from engine.gateway.openai_errors import send_refusal
from engine.gateway.pinned_resolver import PinnedResolver
from engine.types import AdapterVersion
from fleet.messages import TOKENS_USED, ForwardedRequest
from fleet.placement import Bound
from fleet.replica.asgi_call import MOST_UNREAD_BYTES, AsgiCall
from fleet.stock.replicas import StockReplicas
from registry.auth.caller import Caller, as_caller
from registry.auth.rate_limits import RateLimits
from registry.auth.scopes import EVERY_SCOPE
from registry.http.rate_limits import RateLimitMiddleware, request_rates
from registry.quotas.limits import unlimited
from registry.rates.caller_rates import CallerRates
from registry.rates.windows import RateWindows
from tests.support.cache.controller_harness import A, B
from tests.support.cache.fake_fleet import FACTS
from tests.support.cache.fake_ingress import InFlight, Ingress, Names, respond_with
from tests.support.servers.asgi_server import serving

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


async def test_the_resolved_reference_is_forwarded_and_the_response_names_its_replica() -> None:
    ingress = Ingress(respond_with(200, b"{}"))
    answer = await ingress.post()
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["x-adaptry-replica"] == "r0"
    (asked,) = ingress.replicas[0].asked
    assert (asked.version, asked.reference) == (A, "a1:1")
    assert ingress.recent.replicas_with(A.id) == {"r0"}
    await ingress.post()
    assert ingress.replicas[0].asked[-1].near == {"r0"}
    assert ingress.in_flight.now == 0


@pytest.mark.parametrize("content", [{"model": "demo"}, {"model": "nobody"}, {}, b"{", [1]])
async def test_a_request_for_no_known_adapter_is_forwarded_unresolved(content: object) -> None:
    ingress = Ingress(respond_with(200, b"{}"))
    await ingress.post(content)
    assert ingress.replicas[0].asked[0].version is None


async def test_a_replica_serves_the_version_that_the_ingress_resolved() -> None:
    names = Names()
    meant: list[AdapterVersion] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        meant.append(await PinnedResolver(names).resolve("a"))
        await respond_with(200)(scope, receive, send)

    ingress = Ingress(application)
    ingress.names.means["a"] = B  # moved, which this replica has not seen yet
    await ingress.post()
    assert meant == [B]
    await ingress.post({"model": "unknown-here"})
    assert meant[-1] == A, "what the ingress did not resolve is resolved by the replica"


async def open_socket(ingress: Ingress, **scope: Any) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await ingress.app({"type": "websocket", "path": "/v1/realtime", **scope}, receive, send)
    return sent


async def test_a_web_socket_is_refused_in_words() -> None:
    """Which of the replicas would have the session? Without an answer it would be our error."""
    ingress = Ingress(respond_with(200))
    extensions: dict[str, dict[str, str]] = {"websocket.http.response": {}}
    start, body = await open_socket(ingress, extensions=extensions)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 501)
    assert body["type"] == "websocket.http.response.body"
    error = json.loads(body["body"])["error"]
    assert error["code"] == "socket_unsupported"
    assert "a server with an engine of its own" in error["message"]
    assert ingress.replicas[0].asked == []


@pytest.mark.parametrize("scope", [{}, {"extensions": None}, {"extensions": {"other": {}}}])
async def test_where_a_handshake_has_no_words_the_code_is_the_reason(scope: Any) -> None:
    (closed,) = await open_socket(Ingress(respond_with(200)), **scope)
    assert closed == {"type": "websocket.close", "code": 1008, "reason": "socket_unsupported"}


@pytest.mark.parametrize("dies_after", [0, None])
async def test_a_request_fails_over_until_a_response_has_started(dies_after: int | None) -> None:
    ingress = Ingress(respond_with(503, AWAY), respond_with(200, b'{"ok": 1}'))
    ingress.replicas[0].dies_after = dies_after
    if dies_after == 0:  # a dead replica has no known name: Ray's router does not choose it again
        ingress.replicas[0].dies_after = None
    answer = await ingress.post()
    assert answer.json() == {"ok": 1}
    assert answer.headers["x-adaptry-replica"] == "r1"
    assert ingress.replicas[1].asked[0].avoid == {"r0"}


@pytest.mark.parametrize("code", [b"engine_paused", b"engine_asleep"])
async def test_a_replica_that_an_operator_suspended_is_passed_over(code: bytes) -> None:
    suspended = AWAY.replace(b"engine_unavailable", code)
    ingress = Ingress(respond_with(503, suspended), respond_with(200, b'{"ok": 1}'))
    assert (await ingress.post()).json() == {"ok": 1}


async def test_a_rank_that_one_replica_has_no_room_for_is_tried_on_another() -> None:
    """The ingress may not know yet how large its slots are."""
    small = AWAY.replace(b"engine_unavailable", b"rank_too_large")
    ingress = Ingress(respond_with(503, small), respond_with(200, b'{"id": "1"}'))
    answer = await ingress.post()
    assert (answer.status_code, answer.json()) == (200, {"id": "1"})
    alone = await Ingress(respond_with(503, small)).post()
    assert (alone.status_code, alone.json()["error"]["code"]) == (503, "rank_too_large")


async def test_a_rank_that_a_missing_replica_may_serve_is_refused_for_now() -> None:
    ingress = Ingress(respond_with(503, AWAY.replace(b"engine_unavailable", b"rank_too_large")))
    ingress.is_complete = False
    answer = await ingress.post()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "the adapter's rank" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) > 0
    busy = Ingress(respond_with(503, BUSY))
    busy.is_complete = False
    assert (await busy.post()).json()["error"]["code"] == "slot_wait_timeout"


@pytest.mark.parametrize("models", [["wide", "a"], ["a", {"model": "wide"}, "demo", "nobody", 5]])
async def test_a_fan_out_goes_where_the_largest_of_its_ranks_fits(models: list[object]) -> None:
    ingress = Ingress(respond_with(200, b"{}"))
    ingress.names.means["wide"] = replace(B, rank=64)
    await ingress.post({"models": models}, path="/v1/fanout")
    odd: list[object] = [{"models": "wide"}, {"models": [["wide"], {"model": 1}]}, [], b"{"]
    for each in odd:
        await ingress.post(each, path="/v1/fanout")
    await ingress.post({"models": models})
    asked = ingress.replicas[0].asked
    assert [request.rank for request in asked] == [64, 0, 0, 0, 0, 0]
    assert {request.version for request in asked} == {None}, "each model is resolved there"


async def test_each_model_of_a_fan_out_answers_for_itself_whatever_stands_beside_them() -> None:
    """A reference that the ingress resolved would be meant by all of them."""
    answers = respond_with(200, b"{}")
    meant: list[AdapterVersion] = []

    async def replica(scope: Scope, receive: Receive, send: Send) -> None:
        for model in ("a1:1", "a2:1"):
            meant.append(await PinnedResolver(ingress.names).resolve(model))
        await answers(scope, receive, send)

    ingress = Ingress(replica)
    await ingress.post({"model": "a1:1", "models": ["a1:1", "a2:1"]}, path="/v1/fanout")
    assert meant == [A, B]


async def test_after_three_dead_replicas_the_engine_is_unavailable() -> None:
    ingress = Ingress(respond_with(200, b"{}"))
    ingress.replicas[0].dies_after = 0
    answer = await ingress.post()
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_unavailable"
    assert "retry-after" in answer.headers
    assert len(ingress.replicas[0].asked) == 3


async def test_if_all_engines_are_unavailable_the_last_response_is_sent() -> None:
    ingress = Ingress(respond_with(503, AWAY), respond_with(503, AWAY))
    answer = await ingress.post()
    assert (answer.status_code, answer.content) == (503, AWAY)


async def refuse_with_busy(scope: Scope, receive: Receive, send: Send) -> None:
    """As a stock server's application does: the only part of the body is the last one."""
    await send_refusal(send, SlotWaitTimeout("a1:1", 1.0), path=scope["path"])


@pytest.mark.parametrize("busy", [respond_with(503, BUSY), refuse_with_busy])
async def test_another_503_is_not_retried(busy: ASGIApp) -> None:
    ingress = Ingress(busy, respond_with(200, b"{}"))
    answer = await ingress.post()
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "slot_wait_timeout"
    assert len(ingress.replicas[0].asked) == 1
    assert ingress.replicas[1].asked == []


async def test_an_interrupted_stream_ends_with_an_error_event() -> None:
    words = [b'data: {"n": 1}\n\n', b'data: {"n": 2}\n\n']
    ingress = Ingress(respond_with(200, *words, kind=b"text/event-stream; charset=utf-8"))
    ingress.replicas[0].dies_after = 1
    answer = await ingress.post()
    assert answer.status_code == 200
    events = answer.text.split("\n\n")
    assert json.loads(events[-3].removeprefix("data: "))["error"]["code"] == "engine_unavailable"
    assert events[-2:] == ["data: [DONE]", ""]
    assert len(ingress.replicas[0].asked) == 1, "a started response is not retried"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_an_interrupted_stream_ends_in_the_dialect_of_its_route(path: str) -> None:
    words = [b'event: a\ndata: {"sequence_number": 4}\n\n'] * 2
    ingress = Ingress(respond_with(200, *words, kind=b"text/event-stream; charset=utf-8"))
    ingress.replicas[0].dies_after = 2
    events = (await ingress.post(path=path)).text.split("\n\n")
    assert events[-1] == ""
    error = json.loads(events[-2].removeprefix("event: error\ndata: "))
    assert error["error"]["code"] == "engine_unavailable"
    assert error.get("sequence_number") == (5 if path == "/v1/responses" else None)


async def test_another_interrupted_response_is_aborted_rather_than_completed() -> None:
    ingress = Ingress(respond_with(200, b"[1,", b"2]"))
    ingress.replicas[0].dies_after = 1
    with pytest.raises(ConnectionAbortedError):
        await call_directly(ingress.app)


async def call_directly(app: ASGIApp) -> None:
    """Call the application without a server in between."""
    bodies = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

    async def receive() -> Any:
        message = next(bodies, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        assert message["type"] != "http.response.body" or message["more_body"]

    await app(SCOPE, receive, send)


async def test_limits_are_checked_before_a_request_is_forwarded() -> None:
    ingress = Ingress(respond_with(200, b"{}"))
    ingress.in_flight.most = 0
    answer = await ingress.post()
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "tenant_limit")
    assert (await ingress.post(b" " * 1001)).status_code == 413
    assert (await ingress.post(b"\xff")).json()["error"]["code"] == "body_not_text"
    assert ingress.replicas[0].asked == []


async def test_a_form_is_forwarded_unchanged() -> None:
    ingress = Ingress(respond_with(200, b"{}"))
    form = {"content-type": "multipart/form-data; boundary=x"}
    await ingress.post(b"\xff\x00", headers=form)
    assert ingress.replicas[0].asked[0].body == b"\xff\x00"


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Until its client has left."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    left = asyncio.ensure_future(receive())
    while not left.done():
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.001)
    scope["ended"].append(left.result()["type"])


async def test_an_application_sees_a_disconnect_when_its_reader_leaves() -> None:
    ended: list[str] = []
    messages = AsgiCall(endless, {**SCOPE, "ended": ended}, b"", silent_seconds=30.0).messages()
    first = await anext(messages)
    assert first[0]["type"] == "http.response.start"
    await messages.aclose()
    assert ended == ["http.disconnect"]


async def test_an_exception_of_the_application_reaches_the_reader() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await anext(AsgiCall(broken, SCOPE, b"", silent_seconds=30.0).messages())


async def test_pending_messages_come_in_one_batch() -> None:
    batches = [
        b
        async for b in AsgiCall(
            respond_with(200, *[b"x"] * 50), SCOPE, b"", silent_seconds=30.0
        ).messages()
    ]
    assert sum(map(len, batches)) == 52
    assert ForwardedRequest(SCOPE, b"").reference is None


@pytest.mark.parametrize("model", ["a", "demo"])
async def test_before_any_stock_server_answers_the_engine_is_unavailable(model: str) -> None:
    ingress = Ingress(port=StockReplicas({"http://none": FACTS}, Bound()))
    answer = await ingress.post({"model": model})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "answers now" in answer.json()["error"]["message"], "and not that one has died"
    assert int(answer.headers["retry-after"]) > 0
    assert ingress.in_flight.now == 0


async def test_tokens_are_taken_at_the_ingress_and_corrected_by_what_a_replica_used() -> None:
    async def generate(scope: Scope, receive: Receive, send: Send) -> None:
        if (rates := request_rates(scope)) is not None:
            rates.count("tokens", 80)
        await respond_with(200, b"{}")(scope, receive, send)

    while time.time() % 60 > 58:  # else the sum would be split over two minutes
        await asyncio.sleep(0.1)
    ingress, windows = Ingress(generate), RateWindows()
    limited = RateLimitMiddleware(ingress.app, rates=CallerRates(windows, unlimited))
    caller = Caller("app", EVERY_SCOPE, rates=RateLimits(max_tokens_per_minute=1000))
    transport = httpx.ASGITransport(limited)
    with as_caller(caller):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            body = {"model": "a", "max_tokens": 700}
            answer = await http.post("/v1/completions", json=body)
            refused = await http.post("/v1/completions", json=body | {"max_tokens": 930})
    assert (answer.status_code, answer.json()) == (200, {})
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 300
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (await windows.state("tokens of key app", 1000)).remaining == 1000 - 80
    assert len(ingress.replicas[0].asked) == 1


async def test_each_model_of_a_fan_out_is_a_request_and_what_is_refused_takes_no_tokens() -> None:
    """A replica has no rates of its own to count them by."""
    while time.time() % 60 > 58:
        await asyncio.sleep(0.1)
    ingress, windows = Ingress(respond_with(200, b"{}")), RateWindows()
    limited = RateLimitMiddleware(ingress.app, rates=CallerRates(windows, unlimited))
    limits = RateLimits(max_requests_per_minute=12, max_tokens_per_minute=1000)
    transport = httpx.ASGITransport(limited)
    asked = {"models": ["a", {"model": "demo"}, "b", "c"], "prompt": "x", "max_tokens": 9}
    left: list[tuple[int, int, int]] = []
    with as_caller(Caller("app", EVERY_SCOPE, rates=limits)):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            for _ in range(3):
                answer = await http.post("/v1/fanout", json=asked)
                requests = (await windows.state("requests of key app", 12)).remaining
                tokens = (await windows.state("tokens of key app", 1000)).remaining
                left.append((answer.status_code, requests, tokens))
    (first, _, before), (second, _, then), (third, requests, tokens) = left
    assert (first, second, third) == (200, 200, 429)
    assert before > then == tokens
    assert requests == 2
    assert len(ingress.replicas[0].asked) == 2


async def test_the_estimate_of_a_fan_out_is_of_all_its_models() -> None:
    """Until the replica says what they used."""
    taken: list[int] = []
    windows = RateWindows()
    respond = respond_with(200, b"{}")

    async def replica(scope: Scope, receive: Receive, send: Send) -> None:
        taken.append(10_000 - (await windows.state("tokens of key app", 10_000)).remaining)
        await respond(scope, receive, send)
        await send({"type": TOKENS_USED, "tokens": 0})

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await RateLimitMiddleware(ingress.app, rates=CallerRates(windows, unlimited))(
            scope, receive, send
        )

    ingress = Ingress(replica)
    caller = Caller("app", EVERY_SCOPE, rates=RateLimits(max_tokens_per_minute=10_000))
    shared: dict[str, Any] = {"prompt": "x" * 400, "max_tokens": 50}
    longer: dict[str, Any] = {"model": "b", "suffix": "y" * 80, "max_tokens": 700, "n": 2}
    many = [{"model": "b", "max_tokens": 2600}] * 4
    transport = httpx.ASGITransport(application)
    statuses = []
    with as_caller(caller):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            for models in (["a"], ["a", "b", "c"], ["a", longer], many):
                answer = await http.post("/v1/fanout", json=shared | {"models": models})
                statuses.append(answer.status_code)
    one, three, with_longer = taken
    assert 150 <= one < 180
    assert three == pytest.approx(3 * one, rel=0.1)
    assert with_longer == pytest.approx(one + 100 + 20 + 1400, rel=0.05)
    assert statuses == [200, 200, 200, 429], "four times 2,600 tokens of answers"


async def test_the_estimate_of_a_request_that_is_not_forwarded_is_given_back() -> None:
    ingress, windows = Ingress(respond_with(200, b"{}")), RateWindows()
    ingress.in_flight.most = 0
    limited = RateLimitMiddleware(ingress.app, rates=CallerRates(windows, unlimited))
    caller = Caller("app", EVERY_SCOPE, rates=RateLimits(max_tokens_per_minute=1000))
    transport = httpx.ASGITransport(limited)
    with as_caller(caller):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            refused = await http.post("/v1/completions", json={"model": "a", "max_tokens": 700})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "tenant_limit")
    assert (await windows.state("tokens of key app", 1000)).remaining == 1000


@pytest.mark.parametrize(("status", "left"), [(404, 1000), (503, 1000), (200, 0)])
async def test_the_estimate_of_a_request_that_generates_nothing_is_given_back(
    status: int, left: int
) -> None:
    """What a replica refuses it does not count: a name that is mistyped cost the whole estimate."""
    while time.time() % 60 > 58:
        await asyncio.sleep(0.1)
    ingress, windows = Ingress(respond_with(status, AWAY)), RateWindows()
    limited = RateLimitMiddleware(ingress.app, rates=CallerRates(windows, unlimited))
    caller = Caller("app", EVERY_SCOPE, rates=RateLimits(max_tokens_per_minute=1000))
    transport = httpx.ASGITransport(limited)
    with as_caller(caller):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            answer = await http.post("/v1/completions", json={"model": "a", "max_tokens": 1000})
    assert answer.status_code == status
    assert (await windows.state("tokens of key app", 1000)).remaining == left


@pytest.mark.parametrize("begins", [True, False], ids=["in its stream", "before it"])
async def test_a_request_ends_when_its_client_leaves(begins: bool) -> None:
    """uvicorn drops what is sent to one that has left, so that a send tells nothing."""
    ended, leaves = asyncio.Event(), asyncio.Event()

    async def generate(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if begins:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        leaves.set()
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    ingress = Ingress(generate)
    messages = [{"type": "http.request", "body": b'{"model": "a"}', "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        assert begins

    async with asyncio.timeout(10):
        await ingress.app(SCOPE, receive, send)
    assert ended.is_set()
    assert ingress.in_flight.now == 0
    assert len(ingress.replicas[0].asked) == 1


async def test_an_application_waits_for_a_reader_that_stands_still() -> None:
    """Else all that it sends is kept in memory, however slowly it is read."""
    piece, sent = b"x" * (MOST_UNREAD_BYTES // 4), 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(40):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    messages = AsgiCall(application, SCOPE, b"", silent_seconds=30.0).messages()
    first = await anext(messages)
    for _ in range(100):
        await asyncio.sleep(0)
    assert sent < 8
    rest = [message for batch in [first, *[b async for b in messages]] for message in batch]
    assert sum(len(message.get("body", b"")) for message in rest) == 40 * len(piece)


async def test_an_application_that_waits_for_its_reader_ends_when_that_leaves() -> None:
    ended, has_begun = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await has_begun.wait()
        body = b"x" * MOST_UNREAD_BYTES
        await send({"type": "http.response.body", "body": body, "more_body": True})
        ended.set()

    messages = AsgiCall(application, SCOPE, b"", silent_seconds=30.0).messages()
    await anext(messages)
    has_begun.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not ended.is_set()
    async with asyncio.timeout(10):
        await messages.aclose()
    assert ended.is_set()


async def test_a_client_of_a_web_socket_reads_why_it_is_refused() -> None:
    """Over uvicorn, whose bare 403 says no more than that."""
    app = FastAPI()
    app.router.routes.append(Mount("/", Ingress(respond_with(200)).app))
    async with serving(app) as url:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{url.replace('http', 'ws')}/v1/realtime"):
                pass
    response = refused.value.response
    assert (response.status_code, response.headers["content-type"]) == (501, "application/json")
    assert json.loads(response.body)["error"]["code"] == "socket_unsupported"


async def test_only_a_good_answer_tells_where_an_adapter_is_and_that_the_client_waits_no_more() -> (
    None
):
    begun: list[int] = []

    class Awaited(InFlight):
        def begin_answer(self) -> None:
            begun.append(self.now)

    for status, held in ((404, set()), (200, {"r0"})):
        ingress = Ingress(respond_with(status, b"{}"))
        ingress.app._in_flight = Awaited()
        await ingress.post()
        assert ingress.recent.replicas_with(A.id) == held
        assert begun == [1] * len(held)
