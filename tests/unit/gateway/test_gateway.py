"""Gateway at the level of ASGI messages: the status of each response, and no lease is lost."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from urllib.parse import unquote

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.errors import (
    AdapterNotUsed,
    EngineError,
    EnginePaused,
    EngineUnavailable,
    QueueFull,
    TenantLimitReached,
)
from engine.events import CacheEvent
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.gateway.in_flight import RequestsInFlight
from engine.gateway.middleware import AdapterGateway
from engine.gateway.openai_errors import error_event, send_json
from engine.gateway.request_body import RequestBody, hand_on_body
from engine.gateway.request_context import (
    RequestContext,
    RequestedAdapters,
    base_question,
    current_request,
    requested_adapter,
)
from engine.gateway.request_leases import RequestLeases
from engine.policy.policy import CachePolicy
from engine.ports import Observer
from engine.telemetry.spans import NullTracing
from engine.types import AdapterVersion, AdmissionLimits, CacheOutcome, Lease, VersionId, WorkDone
from registry.errors import UnknownAdapter
from registry.quotas.limits import TenantLimits, null_refusal_observer
from registry.rates.caller_rates import RequestRates, Unit
from registry.rates.windows import RateWindows
from tests.support.running_requests import request_scope

VERSION = AdapterVersion(VersionId(7), "support", 3, "abcdef12" * 8, "/a", 8, 100)


def _nothing() -> None:
    """Revokes nothing."""


class IgnoringObserver:
    """An observer that ignores all events."""

    def on_event(self, event: CacheEvent) -> None: ...


class OneAdapter:
    """Resolves `support` in all its spellings, and records the users."""

    def __init__(self, version: AdapterVersion = VERSION) -> None:
        self.version = version
        self.users: list[str] = []

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        self.users.append(user() if user else "nobody")
        if text.split("@", maxsplit=1)[0] != "support":
            raise UnknownAdapter(text)
        return self.version

    async def find(self, text: str) -> AdapterVersion:
        return await self.resolve(text)


class Tally:
    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self.refusals: list[str] = []
        self.first_tokens: list[CacheOutcome] = []
        self.tokens: list[tuple[str, int, int]] = []
        self.shared: list[tuple[str, int]] = []

    def count_request(self, adapter: str, outcome: str, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.ended.append((adapter, outcome))

    def count_refusal(self, code: str) -> None:
        self.refusals.append(code)

    def observe_first_token(self, outcome: CacheOutcome, seconds: float) -> None:
        self.first_tokens.append(outcome)

    def count_tokens(self, adapter: str, prompt: int, generation: int) -> None:
        self.tokens.append((adapter, prompt, generation))

    def count_shared_prefix(self, adapter: str, tokens: int) -> None:
        self.shared.append((adapter, tokens))


class Client:
    """Sends a request as ASGI messages and records the response; may disconnect at any message."""

    def __init__(
        self, body: bytes, *, path: str = "/v1/completions", leave_after: int = -1
    ) -> None:
        self._incoming = [{"type": "http.request", "body": body, "more_body": False}]
        self.messages: list[Message] = []
        self._left = asyncio.Event()
        self._leave_after = leave_after
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"content-type", b"application/json")],
        }

    async def receive(self) -> Message:
        if self._incoming:
            return self._incoming.pop(0)
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if len(self.messages) == self._leave_after:
            self.leave()

    def leave(self) -> None:
        self._left.set()

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(m["body"] for m in self.messages[1:])


class Stage:
    """A gateway over a fake engine and a small application that generates like vLLM's routes."""

    def __init__(self, limits: AdmissionLimits | None = None) -> None:
        self.backend = FakeBackend(slots=1, host_capacity=1)
        self.policy = CachePolicy(slots=1, host_capacity=1)
        observer: Observer = IgnoringObserver()
        loader = Loader(self.backend, UncheckedFiles(), pauses=())
        self.controller = CacheController(self.policy, self.backend, loader, observer, limits)
        self.tally = Tally()
        self.leases = RequestLeases(self.controller, self.tally)
        self.table = RequestedAdapters(lambda version: version)
        self.resolver = OneAdapter()
        self.engine_calls = 0
        self.caller: str | None = None
        self.in_flight = RequestsInFlight(
            lambda: self.caller, lambda tenant: TenantLimits(max_requests_in_flight=1)
        )

    def gateway(self, app: ASGIApp, max_body_bytes: int = 1000) -> AdapterGateway:
        return AdapterGateway(
            app,
            resolver=self.resolver,
            base_models=frozenset({"base"}),
            counter=self.tally,
            tracing=NullTracing(),
            unavailable=lambda: self.controller.unavailable,
            in_flight=self.in_flight,
            own_prefix="/api/",
            max_body_bytes=max_body_bytes,
        )

    @asynccontextmanager
    async def generating(self, version: AdapterVersion) -> AsyncIterator[None]:
        """What vLLM's routes do with an adapter, from the engine's door to the end of its work."""
        admitted = await self.leases.admit(version.id, _nothing)
        try:
            yield
        finally:
            admitted.on_end(WorkDone(prompt_tokens=3, generated_tokens=5, first_token_at=None))

    async def whole_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert "other" not in self.table
        assert self.table.get("other") is None
        async with self.generating(self.table[requested_adapter() or ""]):
            self.engine_calls += 1
        await send_json(send, 200, {"model": requested_adapter()})

    async def streamed_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As Starlette streams: status first, then the body; leaving cancels it."""
        await receive()
        streaming = asyncio.create_task(self._stream(send))
        leaving = asyncio.ensure_future(receive())
        await asyncio.wait({streaming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (streaming, leaving):
            task.cancel()
        await asyncio.gather(streaming, leaving, return_exceptions=True)

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            async with self.generating(VERSION):
                for n in range(3):
                    await send({"type": "http.response.body", "body": b"%d" % n, "more_body": True})
                    await asyncio.sleep(0.01)
        except Exception as error:
            text = f"data: {error}\n\n".encode()
            await send({"type": "http.response.body", "body": text, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def is_idle_soon(self) -> bool:
        """A lease is given back in the next round of the event loop."""
        for _ in range(3):
            await asyncio.sleep(0)
        return self.idle()

    def idle(self) -> bool:
        residency = self.policy.residency()
        return not len(self.policy.wait_queue) and not any(
            map(self.policy.lease_count, residency.host)
        )


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[Stage]:
    task = asyncio.create_task(stage.controller.run())
    try:
        yield stage
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def asking(model: object) -> bytes:
    return json.dumps({"model": model, "prompt": "x"}).encode()


async def test_an_answer_says_which_version_and_what_the_cache_did() -> None:
    async with running(Stage()) as stage:
        for expected in ("miss", "gpu_hit"):
            client = Client(asking("support@prod"))
            await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
            assert client.status == 200
            assert json.loads(client.body) == {"model": "support@prod"}
            assert client.headers["x-adaptry-version"] == "support:3"
            assert client.headers["x-adaptry-cache"] == expected
            assert float(client.headers["x-adaptry-load-ms"]) >= 0
        assert stage.tally.ended == [("support", "completed")] * 2
        assert await stage.is_idle_soon()


@pytest.mark.parametrize("model", ["nobody", "support"])
async def test_anthropics_clients_read_their_own_format(model: str) -> None:
    async with running(Stage()) as stage:
        stage.caller = "acme"
        end = stage.in_flight.begin() if model == "support" else None
        client = Client(asking(model), path="/v1/messages")
        await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        content = json.loads(client.body)
        expected = "not_found_error" if end is None else "rate_limit_error"
        assert (content["type"], content["error"]["type"]) == ("error", expected)
        assert content["error"]["code"] == ("model_not_found" if end is None else "tenant_limit")


SECRET = "the prompt was MARKERFOUR"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/messages"])
async def test_a_500_that_a_route_answers_itself_is_an_internal_error_with_an_id(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Stage()) as stage:

        async def failing_answer(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send_json(send, 500, {"error": {"message": SECRET, "code": 500}})

        client = Client(asking("base"), path=path)
        await stage.gateway(failing_answer)(client.scope, client.receive, client.send)
        error = json.loads(client.body)["error"]
        assert (client.status, error["code"]) == (500, "internal_error")
        assert (json.loads(client.body).get("type") == "error") == (path == "/v1/messages")
        assert "MARKERFOUR" not in client.body.decode() + caplog.text
        (line,) = [record.getMessage() for record in caplog.records if path in record.getMessage()]
        assert line.split()[2] in error["message"]
        assert stage.tally.refusals == ["internal_error"]


async def test_an_answer_of_500_counts_as_failed() -> None:
    async with running(Stage()) as stage:

        async def failing_answer(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            async with stage.generating(VERSION):
                pass
            await send_json(send, 500, {"error": {"message": "x", "code": 500}})

        client = Client(asking("support"))
        await stage.gateway(failing_answer)(client.scope, client.receive, client.send)
        assert stage.tally.ended == [("support", "failed")]


async def test_the_body_that_comes_is_served_and_not_one_that_was_read_before() -> None:
    """As of a route that writes another one for the next."""
    async with running(Stage()) as stage:
        client = Client(asking("support"))
        hand_on_body(client.scope, RequestBody(asking("base")))
        await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        assert json.loads(client.body) == {"model": "support"}
        assert client.headers["x-adaptry-version"] == "support:3"


async def test_an_unexpected_error_that_has_its_id_keeps_it() -> None:
    async with running(Stage()) as stage:

        async def reported_answer(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            running_request = current_request()
            assert running_request is not None
            running_request.is_reported = True
            await send_json(send, 500, {"error": {"message": "the id is 17"}})

        client = Client(asking("base"))
        await stage.gateway(reported_answer)(client.scope, client.receive, client.send)
        assert json.loads(client.body)["error"]["message"] == "the id is 17"


async def test_what_a_route_quotes_of_a_refused_request_has_no_key() -> None:
    async with running(Stage()) as stage:

        async def quoting(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send_json(
                send, 400, {"error": {"message": f"no such field: adp_{'0' * 12}_{'k' * 43}"}}
            )

        client = Client(asking("base"))
        await stage.gateway(quoting)(client.scope, client.receive, client.send)
        assert client.status == 400
        assert b"no such field: adp_" in client.body
        assert b"kkkk" not in client.body


@pytest.mark.parametrize(
    ("event", "is_internal"),
    [
        (b'data: {"error": {"message": "%s", "code": 500}}\n\n', True),
        (b'data: {"error": {"message": "%s", "code": 400}}\n\n', False),
        (b'event: error\ndata: {"error": {"type": "internal_error", "message": "%s"}}\n\n', True),
    ],
)
@pytest.mark.parametrize("model", ["base", "support"])
async def test_a_stream_that_fails_unexpectedly_ends_without_the_exceptions_text(
    event: bytes, is_internal: bool, model: str
) -> None:
    async with running(Stage()) as stage:

        async def failing_stream(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async with stage.generating(VERSION) if model == "support" else nullcontext():
                for text in (b'data: {"id": 1}\n\n', event % SECRET.encode()):
                    await send({"type": "http.response.body", "body": text, "more_body": True})
            end = {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False}
            await send(end)

        client = Client(asking(model))
        await stage.gateway(failing_stream)(client.scope, client.receive, client.send)
        token, error, done = client.body.decode().strip().split("\n\n")
        assert (token, done) == ('data: {"id": 1}', "data: [DONE]")
        assert ("MARKERFOUR" in error) == (not is_internal)
        assert ("internal_error" in error) == is_internal


async def test_a_stream_whose_engine_dies_ends_with_the_same_code_as_a_refusal() -> None:
    async with running(Stage()) as stage:

        async def dying_answer(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            admitted = await stage.leases.admit(None, _nothing)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for text in (b'data: {"id": 1}\n\n', b'data: {"error": {"code": 500}}\n\n'):
                await send({"type": "http.response.body", "body": text, "more_body": True})
                admitted.on_engine_death(EngineUnavailable("it ended"))
            end = {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False}
            await send(end)

        client = Client(asking("base"))
        await stage.gateway(dying_answer)(client.scope, client.receive, client.send)
        token, error, done = client.body.decode().strip().split("\n\n")
        assert (client.status, token, done) == (200, 'data: {"id": 1}', "data: [DONE]")
        assert json.loads(error.removeprefix("data: ")) == {
            "error": {
                "message": "the engine does not answer: it ended",
                "type": "ServiceUnavailableError",
                "param": None,
                "code": "engine_unavailable",
            }
        }


@pytest.mark.parametrize("admitted", ["never", "before", "after"])
async def test_a_stream_whose_refusal_its_route_does_not_answer_is_not_cut(admitted: str) -> None:
    """vLLM's `/v1/responses` sends its first events before it asks the engine."""
    refusal = EngineUnavailable("it ended")
    created = b'data: {"type": "response.created"}\n\n'

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        request = current_request()
        assert request is not None
        request.is_admitted = admitted == "before"
        await send({"type": "http.response.body", "body": created, "more_body": True})
        if admitted == "after":
            async with stage.generating(VERSION):
                pass
        request.failure = refusal
        raise refusal

    async with running(Stage()) as stage:
        model = "support" if admitted == "after" else "base"
        client = Client(asking(model), path="/v1/responses")
        await stage.gateway(stream)(client.scope, client.receive, client.send)
        status, *_ = (m["status"] for m in client.messages if "status" in m)
        assert status == (refusal.status if admitted == "never" else 200)
        told = 1 if admitted == "never" else 2  # in both places of the event
        assert client.body.decode().count(refusal.code) == told
        assert client.body.startswith(b'{"error"' if admitted == "never" else created)
        assert not client.messages[-1].get("more_body")


async def test_a_stream_of_requests_within_the_server_is_sent_as_it_comes() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        request = current_request()
        assert request is not None
        request.asks_within = True
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for sent in (b"data: 1\n\n", b"data: 2\n\n"):
            await send({"type": "http.response.body", "body": sent, "more_body": True})
            assert client.messages[-1]["body"] == sent
        await send({"type": "http.response.body", "body": b""})

    async with running(Stage()) as stage:
        client = Client(b'{"models": ["support"]}', path="/v1/fanout")
        await stage.gateway(stream)(client.scope, client.receive, client.send)
        assert client.status == 200


def test_an_event_that_ends_a_stream_has_the_routes_format() -> None:
    error = EngineUnavailable("it ended")
    named, data = error_event(error, "/v1/messages").decode().strip().split("\n")
    assert named == "event: error"
    content = json.loads(data.removeprefix("data: "))
    assert (content["type"], content["error"]["type"]) == ("error", "overloaded_error")
    assert error_event(error, "/v1/completions").startswith(b'data: {"error"')


async def test_an_unknown_adapter_is_an_openai_404_and_never_reaches_the_engine() -> None:
    async with running(Stage()) as stage:
        client = Client(asking("nobody"))
        await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        assert client.status == 404
        error = json.loads(client.body)["error"]
        assert error["code"] == "model_not_found"
        assert error["param"] == "model"
        assert error["type"] == "NotFoundError"
        assert stage.engine_calls == 0
        assert stage.tally.ended == [("_unknown", "refused")]
        assert stage.tally.refusals == ["model_not_found"]


@pytest.mark.parametrize("model", ["support", "base"])
async def test_a_tenants_requests_in_flight_are_counted_until_their_answers_end(model: str) -> None:
    async with running(Stage()) as stage:
        stage.caller = "acme"
        answering = asyncio.Event()

        async def slow_answer(scope: Scope, receive: Receive, send: Send) -> None:
            await answering.wait()
            await send_json(send, 200, {})

        first, second, third, other = (Client(asking(model)) for _ in range(4))
        gateway = stage.gateway(slow_answer)
        running_first = asyncio.ensure_future(gateway(first.scope, first.receive, first.send))
        while not stage.in_flight.of("acme"):
            await asyncio.sleep(0)
        await gateway(second.scope, second.receive, second.send)
        assert second.status == 429
        assert second.headers["retry-after"] == "1"
        assert json.loads(second.body)["error"]["code"] == "tenant_limit"
        stage.caller = None
        running_other = asyncio.ensure_future(gateway(other.scope, other.receive, other.send))
        await asyncio.sleep(0)
        assert stage.in_flight.has_any()
        answering.set()
        await running_first
        await running_other
        assert not stage.in_flight.has_any()
        assert (first.status, other.status) == (200, 200)
        stage.caller = "acme"
        await gateway(third.scope, third.receive, third.send)
        assert third.status == 200
        assert stage.in_flight.of("acme") == 0
        assert stage.tally.refusals == ["tenant_limit"]


def test_a_refused_tenant_learns_when_one_of_its_requests_should_end() -> None:
    now = 0.0
    limits = TenantLimits(max_requests_in_flight=2)
    in_flight = RequestsInFlight(lambda: "acme", lambda tenant: limits, clock=lambda: now)
    first, _ = in_flight.begin(), in_flight.begin()
    now = 10.0
    first.end()
    in_flight.begin()
    with pytest.raises(TenantLimitReached) as refused:
        in_flight.begin()
    assert refused.value.retry_after_seconds == 5


async def test_a_first_token_is_awaited_until_it_comes() -> None:
    async with running(Stage()) as stage:
        awaited: list[tuple[str, bool]] = []

        async def send(message: Message) -> None:
            awaited.append((message["type"], stage.in_flight.is_first_token_awaited()))

        client = Client(asking("support"))
        await stage.gateway(stage.streamed_answer)(client.scope, client.receive, send)
        parts = [("http.response.body", False)] * 4
        assert awaited == [("http.response.start", True), *parts]


@pytest.mark.parametrize(
    ("ended", "failure", "outcome"),
    [
        ("completed", None, "completed"),
        ("cancelled", None, "cancelled"),
        ("failed", None, "failed"),
        ("failed", QueueFull(1, 1), "refused"),
        ("failed", EngineUnavailable("it ended"), "failed"),
    ],
)
async def test_work_behind_an_answer_is_in_flight_until_it_ends(
    ended: str, failure: EngineError | None, outcome: str
) -> None:
    """Whoever has reached his limit by it may still end it."""
    async with running(Stage()) as stage:
        stage.caller = "acme"
        work: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def queued_answer(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            asked = current_request()
            assert asked is not None
            asked.background = work
            await send_json(send, 200, {"status": "queued"})
            asked.failure = failure

        first, second = (Client(asking("support"), path="/v1/responses") for _ in range(2))
        gateway = stage.gateway(queued_answer)
        serving = asyncio.ensure_future(gateway(first.scope, first.receive, first.send))
        while not stage.in_flight.of("acme") or not first.messages:
            await asyncio.sleep(0)
        await gateway(second.scope, second.receive, second.send)
        assert second.status == 429
        assert (stage.in_flight.of("acme"), stage.tally.ended) == (1, [])

        async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
            await send_json(send, 200, {"status": "cancelled"})

        third = Client(b"", path="/v1/responses/resp_1/cancel")
        await stage.gateway(cancelled)(third.scope, third.receive, third.send)
        assert third.status == 200
        first.leave()
        work.set_result(ended)
        await serving
        assert stage.tally.ended == [("support", outcome)]
        assert not stage.in_flight.has_any()


@pytest.mark.parametrize("is_answered", [True, False])
async def test_work_behind_an_answer_is_counted_though_its_request_is_cancelled(
    is_answered: bool,
) -> None:
    """As at a shutdown, or by an ingress that waits no longer: the engine works on."""
    async with running(Stage()) as stage:
        stage.caller = "acme"
        loop = asyncio.get_running_loop()
        work: asyncio.Future[str] = loop.create_future()
        requests: list[RequestContext] = []

        async def working(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            asked = current_request()
            assert asked is not None
            requests.append(asked)
            asked.background = work
            if not is_answered:
                await loop.create_future()
            async with stage.generating(VERSION):
                await send_json(send, 200, {"status": "queued"})

        client = Client(asking("support"), path="/v1/responses")
        gateway = stage.gateway(working)(client.scope, client.receive, client.send)
        serving = asyncio.ensure_future(gateway)
        while not requests or (is_answered and len(client.messages) < 2):
            await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert (stage.in_flight.of("acme"), stage.tally.ended) == (1, [])
        work.set_result("completed")
        await asyncio.sleep(0)
        assert stage.tally.ended == [("support", "completed")]
        assert not stage.in_flight.has_any()
        (request,) = requests
        assert (request.shared_lease, request.on_lease) == (None, None)


async def test_a_request_that_is_refused_or_breaks_is_not_in_flight_any_more() -> None:
    async with running(Stage()) as stage:
        stage.caller = "acme"

        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            raise RuntimeError("broken on purpose")

        client = Client(asking("nobody"))
        await stage.gateway(broken)(client.scope, client.receive, client.send)
        assert client.status == 404
        for _ in range(2):
            client = Client(asking("support"))
            with pytest.raises(RuntimeError):
                await stage.gateway(broken)(client.scope, client.receive, client.send)
        assert stage.in_flight.of("acme") == 0
        assert not stage.in_flight.has_any()
        assert not stage.in_flight.is_first_token_awaited()


async def test_what_breaks_while_the_engine_ends_is_the_engines_doing() -> None:
    async with running(Stage()) as stage:

        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            await stage.controller.on_engine_lost(EngineUnavailable("it is being stopped"))
            raise RuntimeError("cannot schedule new futures after shutdown")

        client = Client(asking("support"))
        await stage.gateway(broken)(client.scope, client.receive, client.send)
        assert client.status == 503
        assert json.loads(client.body)["error"]["code"] == "engine_unavailable"
        assert int(client.headers["retry-after"]) > 0
        assert stage.tally.refusals == ["engine_unavailable"]


async def test_of_two_reasons_the_first_is_given() -> None:
    async with running(Stage()) as stage:

        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            request = current_request()
            assert request is not None
            request.on_refused(QueueFull(1, 1))
            await stage.controller.on_engine_lost(EngineUnavailable("it is being stopped"))
            raise RuntimeError("cannot schedule new futures after shutdown")

        client = Client(asking("support"))
        await stage.gateway(broken)(client.scope, client.receive, client.send)
        assert (client.status, stage.tally.refusals) == (429, ["queue_full"])


async def test_an_answer_that_its_engine_cuts_off_is_not_ended_as_if_it_were_whole() -> None:
    async with running(Stage()) as stage:

        async def cut_off(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            async with stage.generating(VERSION):
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b'{"id"', "more_body": True})
                raise EngineUnavailable("it ended")

        client = Client(asking("support"))
        with pytest.raises(EngineUnavailable):
            await stage.gateway(cut_off)(client.scope, client.receive, client.send)
        assert client.messages[-1]["more_body"]
        assert stage.tally.ended == [("support", "failed")]
        assert await stage.is_idle_soon()


@pytest.mark.parametrize("kind", [b"application/octet-stream", b"text/event-stream"])
async def test_an_answer_that_its_route_does_not_end_has_failed(kind: bytes) -> None:
    async with running(Stage()) as stage:

        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            headers = [(b"content-type", kind)]
            async with stage.generating(VERSION):
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                raise RuntimeError("broken on purpose")

        client = Client(asking("support"), path="/pooling")
        with pytest.raises(RuntimeError):
            await stage.gateway(broken)(client.scope, client.receive, client.send)
        assert stage.tally.ended == [("support", "failed")]


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (b'data: {"error": {"message": "x", "code": 500}}\n\n', "failed"),
        (b'data: {"error": {"message": "x", "code": 503}}\n\n', "failed"),
        (b'data: {"error": {"message": "x", "code": 400}}\n\n', "refused"),
        (b'event: error\ndata: {"error": {"type": "internal_error"}}\n\n', "failed"),
        (b'data: {"id": 2}\n\n', "completed"),
    ],
)
async def test_a_stream_counts_by_the_error_that_ends_it(event: bytes, outcome: str) -> None:
    async with running(Stage()) as stage:

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async with stage.generating(VERSION):
                for text in (b'data: {"id": 1}\n\n', event):
                    await send({"type": "http.response.body", "body": text, "more_body": True})
            end = {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False}
            await send(end)

        client = Client(asking("support"))
        await stage.gateway(stream)(client.scope, client.receive, client.send)
        assert stage.tally.ended == [("support", outcome)]


@pytest.mark.parametrize("is_background", [True, False])
async def test_an_answer_whose_work_this_server_ended_has_failed(is_background: bool) -> None:
    """As by an eviction by force: vLLM answers 200 with what there was, and says `abort`."""
    async with running(Stage()) as stage:
        work: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        work.set_result("completed")

        async def cut(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            async with stage.generating(VERSION):
                asked = current_request()
                assert asked is not None
                asked.cut = "failed"
                asked.background = work if is_background else None
            await send_json(send, 200, {"choices": [{"finish_reason": "abort"}]})

        client = Client(asking("support"))
        await stage.gateway(cut)(client.scope, client.receive, client.send)
        assert client.status == 200
        assert stage.tally.ended == [("support", "failed")]


async def test_where_the_engine_is_away_a_request_is_refused_once_and_asks_no_route() -> None:
    async with running(Stage()) as stage:
        await stage.controller.on_engine_lost(EngineUnavailable("it starts again"))
        asked: list[Scope] = []

        async def noting(scope: Scope, receive: Receive, send: Send) -> None:
            asked.append(scope)

        client = Client(asking("support"))
        await stage.gateway(noting)(client.scope, client.receive, client.send)
        assert (client.status, len(client.messages), asked) == (503, 2, [])
        assert stage.tally.refusals == ["engine_unavailable"]
        client.scope["method"] = "GET"  # the list of models needs no engine
        await stage.gateway(noting)(client.scope, client.receive, client.send)
        assert asked == [client.scope]


async def test_where_an_operator_paused_the_engine_a_request_may_end_that() -> None:
    async with running(Stage()) as stage:
        await stage.controller.on_engine_lost(EnginePaused())

        async def resuming(scope: Scope, receive: Receive, send: Send) -> None:
            stage.controller.on_engine_ready()
            await send_json(send, 200, {})

        client = Client(b"", path="/resume")
        await stage.gateway(resuming)(client.scope, client.receive, client.send)
        assert client.status == 200


async def test_a_client_that_leaves_before_its_request_is_whole_asks_no_route() -> None:
    async with running(Stage()) as stage:
        client = Client(b"")
        client._incoming[0] |= {"body": asking("support")[:5], "more_body": True}
        client.leave()
        await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        assert (client.messages, stage.engine_calls) == ([], 0)
        assert not stage.in_flight.has_any()


@pytest.mark.parametrize("model", ["base", None, 7, ["support"], ""])
async def test_what_names_no_adapter_passes_untouched(model: object) -> None:
    async with running(Stage()) as stage:
        seen: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(await receive())
            assert "support" not in stage.table
            await send_json(send, 200, {})

        client = Client(asking(model))
        await stage.gateway(app)(client.scope, client.receive, client.send)
        assert seen[0]["body"] == asking(model)
        assert "x-adaptry-version" not in client.headers
        assert stage.tally.ended == []


async def test_a_body_may_be_as_large_as_the_limit() -> None:
    async with running(Stage()) as stage:
        content = asking("support")
        for limit_bytes, status in ((len(content), 200), (len(content) - 1, 413)):
            client = Client(content)
            gateway = stage.gateway(stage.whole_answer, limit_bytes)
            await gateway(client.scope, client.receive, client.send)
            assert client.status == status


async def test_a_body_over_the_limit_is_refused_early() -> None:
    async with running(Stage()) as stage:
        client = Client(asking("support" * 1000))
        await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        assert client.status == 413
        assert json.loads(client.body)["error"]["code"] == "body_too_large"
        assert stage.tally.refusals == ["body_too_large"]


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"\xff\xfe", "body_not_text"), (b"[" * 900, "body_too_deep")],
)
async def test_what_no_parser_should_see_is_refused(body: bytes, code: str) -> None:
    async with running(Stage()) as stage:
        client = Client(body)
        await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        assert client.status == 400
        assert json.loads(client.body)["error"]["code"] == code
        assert stage.tally.refusals == [code]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]"])
async def test_a_body_that_is_no_request_is_left_to_vllm(body: bytes) -> None:
    async with running(Stage()) as stage:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send_json(send, 400, {})

        client = Client(body)
        await stage.gateway(app)(client.scope, client.receive, client.send)
        assert client.status == 400


def streams(stage: Stage) -> ASGIApp:
    return stage.streamed_answer


def answers(stage: Stage) -> ASGIApp:
    return stage.whole_answer


@pytest.mark.parametrize("kind", [streams, answers])
async def test_a_failed_load_has_a_proper_status_streaming_or_not(
    kind: Callable[[Stage], ASGIApp],
) -> None:
    async with running(Stage()) as stage:
        stage.backend.broken.add(VERSION.id)
        client = Client(asking("support"))
        await stage.gateway(kind(stage))(client.scope, client.receive, client.send)
        assert client.status == 503
        assert json.loads(client.body)["error"]["code"] == "adapter_load_failed"
        assert stage.tally.ended == [("support", "failed")]
        assert stage.tally.refusals == ["adapter_load_failed"]
        assert await stage.is_idle_soon()


async def test_a_stream_reports_where_its_adapter_was_before_the_first_token() -> None:
    async with running(Stage()) as stage:
        client = Client(asking("support"))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            assert client.messages == []
            async with stage.generating(VERSION):
                await asyncio.sleep(0)  # nothing waits for the head to be sent
                assert client.headers["x-adaptry-cache"] == "miss"
            await send({"type": "http.response.body", "body": b"x", "more_body": False})

        await stage.gateway(app)(client.scope, client.receive, client.send)
        assert client.body == b"x"
        assert stage.tally.ended == [("support", "completed")]


async def test_too_long_a_line_is_a_429_with_retry_after() -> None:
    async with running(Stage(AdmissionLimits(max_waiting=1))) as stage:
        other = AdapterVersion(VersionId(8), "other", 1, "0" * 64, "/b", 8, 1)
        async with stage.controller.lease(other):
            first, second = Client(asking("support")), Client(asking("support"))
            gateway = stage.gateway(stage.streamed_answer)
            waiting = asyncio.ensure_future(gateway(first.scope, first.receive, first.send))
            while not len(stage.policy.wait_queue):
                await asyncio.sleep(0)
            await gateway(second.scope, second.receive, second.send)
            assert second.status == 429
            assert int(second.headers["retry-after"]) >= 1
            assert stage.tally.ended == [("support", "refused")]
        await waiting
        assert first.status == 200
        assert stage.tally.refusals == ["queue_full"], "who was let in is none"
        assert await stage.is_idle_soon()


async def test_a_client_that_leaves_before_the_first_byte_leaves_no_lease() -> None:
    async with running(Stage()) as stage:
        other = AdapterVersion(VersionId(8), "other", 1, "0" * 64, "/b", 8, 1)
        async with stage.controller.lease(other):
            client = Client(asking("support"))
            gateway = stage.gateway(stage.streamed_answer)
            request = asyncio.ensure_future(gateway(client.scope, client.receive, client.send))
            while not len(stage.policy.wait_queue):
                await asyncio.sleep(0)
            client.leave()
            await request
            assert client.messages == []
        assert stage.tally.ended == [("support", "cancelled")]
        assert await stage.is_idle_soon()


@pytest.mark.parametrize("messages", [1, 2, 3])
async def test_a_client_that_leaves_mid_stream_leaves_no_lease(messages: int) -> None:
    async with running(Stage()) as stage:
        client = Client(asking("support"), leave_after=messages)
        await stage.gateway(stage.streamed_answer)(client.scope, client.receive, client.send)
        assert stage.tally.ended == [("support", "cancelled")]
        assert await stage.is_idle_soon()


async def test_tokenising_for_an_adapter_is_no_generation() -> None:
    async with running(Stage()) as stage:

        async def tokenise(scope: Scope, receive: Receive, send: Send) -> None:
            assert stage.table["support"] == VERSION
            await send_json(send, 200, {"tokens": [1]})

        client = Client(asking("support"), path="/tokenize")
        await stage.gateway(tokenise)(client.scope, client.receive, client.send)
        assert not [name for name in client.headers if name.startswith("x-adaptry")]
        assert stage.tally.ended == []


async def test_a_deprecated_version_answers_with_a_warning() -> None:
    async with running(Stage()) as stage:
        reason = "trained on old data: use support:4, 50 % better\nñ"
        stage.resolver.version = replace(
            VERSION, deprecated_at=1_764_000_000, deprecation_reason=reason
        )
        client = Client(asking("support"))
        await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        assert client.status == 200
        assert client.headers["deprecation"] == "@1764000000"
        shown = client.headers["x-adaptry-deprecation"]
        assert shown == "trained on old data: use support:4, 50 %25 better%0A%C3%B1"
        assert unquote(shown) == reason


async def test_other_versions_answer_without_one() -> None:
    async with running(Stage()) as stage:
        client = Client(asking("support"))
        await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        assert not [name for name in client.headers if "deprecation" in name]


@pytest.mark.parametrize(
    ("fields", "header", "user"),
    [
        ({"user": "ann"}, None, "ann"),
        ({"user": "ann"}, b"bob", "bob"),
        ({}, b"bob", "bob"),
    ],
)
async def test_the_user_is_the_header_or_openai_s_user(
    fields: dict[str, str], header: bytes | None, user: str
) -> None:
    async with running(Stage()) as stage:
        client = Client(json.dumps({"model": "support", **fields}).encode())
        if header is not None:
            client.scope["headers"].append((b"x-adaptry-user", header))
        await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        assert stage.resolver.users == [user]


async def test_a_request_without_a_user_gets_a_new_one_each_time() -> None:
    async with running(Stage()) as stage:
        for user in (None, "", 7, None):
            client = Client(json.dumps({"model": "support", "user": user}).encode())
            await stage.gateway(stage.whole_answer)(client.scope, client.receive, client.send)
        assert len(set(stage.resolver.users)) == 4


async def test_our_own_routes_are_passed_through() -> None:
    async with running(Stage()) as stage:
        client = Client(asking("nobody"), path="/api/v1/cache/pins")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send_json(send, 201, {})

        await stage.gateway(app)(client.scope, client.receive, client.send)
        assert client.status == 201


# ---- what was resolved is what answers -----------------------------------------------------


@pytest.mark.parametrize("asked", [None, VersionId(8)])
async def test_an_engine_that_is_asked_for_something_else_never_answers(
    asked: VersionId | None,
) -> None:
    """Whatever a route made of `model` by then: vLLM's `/invocations` overwrites it."""
    async with running(Stage()) as stage:

        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await stage.leases.admit(asked, _nothing)
            await send_json(send, 200, {"text": "the base model's"})

        client = Client(asking("support"))
        await stage.gateway(route)(client.scope, client.receive, client.send)
        assert client.status == 400
        assert json.loads(client.body)["error"]["code"] == "adapter_not_used"
        assert "x-adaptry-version" not in client.headers
        assert stage.tally.refusals == ["adapter_not_used"]
        assert await stage.is_idle_soon()


async def test_a_route_may_ask_the_base_model_first_and_answers_with_the_adapter() -> None:
    """As vLLM does to find the language of speech."""
    async with running(Stage()) as stage:

        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            with base_question():
                (await stage.leases.admit(None, _nothing)).on_end(WorkDone(0, 0, None))
                with pytest.raises(AdapterNotUsed):
                    await stage.leases.admit(VERSION.id, _nothing)
            request = current_request()
            assert request is not None
            request.failure = None
            assert request.lease is None
            (await stage.leases.admit(VERSION.id, _nothing)).on_end(WorkDone(0, 0, None))
            await send_json(send, 200, {"text": "the adapter's"})

        client = Client(asking("support"))
        await stage.gateway(route)(client.scope, client.receive, client.send)
        assert client.status == 200, client.body
        assert client.headers["x-adaptry-version"] == VERSION.reference
        assert await stage.is_idle_soon()


async def test_an_adapter_for_a_request_that_named_none_is_refused_as_well() -> None:
    async with running(Stage()) as stage:

        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await stage.leases.admit(VERSION.id, _nothing)

        client = Client(asking("base"))
        await stage.gateway(route)(client.scope, client.receive, client.send)
        assert client.status == 400
        assert await stage.is_idle_soon()


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/completions", 200), ("/v1/audio/transcriptions", 503), ("/v1/responses", 503)],
)
@pytest.mark.parametrize("is_paused", [True, False])
async def test_an_answer_that_was_cut_and_does_not_say_so_is_an_error(
    path: str, status: int, is_paused: bool
) -> None:
    """A transcription has no `finish_reason`, and vLLM calls such a response completed."""
    async with running(Stage()) as stage:

        async def cut(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            async with stage.generating(VERSION):
                asked = current_request()
                assert asked is not None
                asked.cut = "failed"
            if is_paused:
                await stage.controller.on_engine_lost(EnginePaused())
            await send_json(send, 200, {"text": "half of"})

        client = Client(asking("support"), path=path)
        await stage.gateway(cut)(client.scope, client.receive, client.send)
        assert client.status == status
        assert stage.tally.ended == [("support", "failed")]
        if status == 503:
            code = "engine_paused" if is_paused else "adapter_forced_out"
            assert json.loads(client.body)["error"]["code"] == code
            assert stage.tally.refusals == [code]


# ---- who ended it first --------------------------------------------------------------------


async def test_a_client_that_leaves_a_plain_request_has_cancelled_it() -> None:
    """vLLM answers `null` with 200 then."""
    async with running(Stage()) as stage:

        async def cancelled_by_leaving(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            async with stage.generating(VERSION):
                client.leave()
                assert (await receive())["type"] == "http.disconnect"
            await send_json(send, 200, None)

        client = Client(asking("support"))
        await stage.gateway(cancelled_by_leaving)(client.scope, client.receive, client.send)
        assert stage.tally.ended == [("support", "cancelled")]
        assert await stage.is_idle_soon()


async def test_a_client_that_leaves_after_its_whole_answer_has_not() -> None:
    async with running(Stage()) as stage:

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await stage.whole_answer(scope, receive, send)
            client.leave()
            await receive()

        client = Client(asking("support"))
        await stage.gateway(answer)(client.scope, client.receive, client.send)
        assert stage.tally.ended == [("support", "completed")]


# ---- readers that stand still --------------------------------------------------------------


async def test_a_head_that_no_client_reads_keeps_no_request_out_of_the_engine() -> None:
    async with running(Stage()) as stage:
        reads = asyncio.Event()
        client = Client(asking("support"))

        async def send(message: Message) -> None:
            await reads.wait()
            await client.send(message)

        worked = asyncio.Event()

        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async with stage.generating(VERSION):
                worked.set()
            await send({"type": "http.response.body", "body": b"x", "more_body": False})

        gateway = stage.gateway(route)
        request = asyncio.ensure_future(gateway(client.scope, client.receive, send))
        await asyncio.wait_for(worked.wait(), 30)
        assert await stage.is_idle_soon()
        assert client.messages == [], "the lease is back while the client has read nothing"
        reads.set()
        await request
        assert client.body == b"x"
        assert client.headers["x-adaptry-version"] == "support:3"


# ---- many prompts in one request -----------------------------------------------------------


async def test_many_prompts_of_one_request_wait_in_one_place_of_the_queue() -> None:
    limits = AdmissionLimits(max_waiting=2, max_waiting_per_adapter=1)
    async with running(Stage(limits)) as stage:

        async def batch(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            prompts = [stage.leases.admit(VERSION.id, _nothing) for _ in range(1024)]
            admitted = await asyncio.gather(*prompts)
            await asyncio.sleep(0)
            assert stage.policy.lease_count(VERSION.id) == 1
            for each in admitted:
                assert stage.policy.lease_count(VERSION.id) == 1, "until the last of them has ended"
                each.on_end(WorkDone(1, 1, None))
            await send_json(send, 200, {})

        client = Client(asking("support"))
        await stage.gateway(batch)(client.scope, client.receive, client.send)
        assert client.status == 200
        assert await stage.is_idle_soon()
        assert len(stage.tally.tokens) == 1024


async def test_prompts_one_after_another_have_a_lease_each_and_the_first_is_reported() -> None:
    async with running(Stage()) as stage:

        async def turns(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            for _ in range(2):
                async with stage.generating(VERSION):
                    assert stage.policy.lease_count(VERSION.id) == 1
                assert await stage.is_idle_soon()
            await send_json(send, 200, {})

        client = Client(asking("support"))
        await stage.gateway(turns)(client.scope, client.receive, client.send)
        assert (client.status, client.headers["x-adaptry-cache"]) == (200, "miss")


@pytest.mark.parametrize("found", [(True, False), (False, True)])
def test_of_several_prompts_all_have_to_invoke_an_activated_adapter(
    found: tuple[bool, ...],
) -> None:
    request = RequestContext("support", VERSION)
    request.on_leased(Lease(VERSION, CacheOutcome.MISS, 0.0, 0.0))
    for each in found:
        request.on_invocation(each)
    assert (b"x-adaptry-invocation", b"missing") in request.headers()


async def test_prompts_that_leave_while_they_wait_give_their_place_up_with_the_last() -> None:
    async with running(Stage()) as stage:
        other = AdapterVersion(VersionId(8), "other", 1, "0" * 64, "/b", 8, 1)

        async def batch(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            prompts = [
                asyncio.create_task(stage.leases.admit(VERSION.id, _nothing)) for _ in range(3)
            ]
            while not len(stage.policy.wait_queue):
                await asyncio.sleep(0)
            for left, prompt in enumerate(prompts, start=1):
                prompt.cancel()
                await asyncio.gather(prompt, return_exceptions=True)
                await asyncio.sleep(0)
                assert len(stage.policy.wait_queue) == (1 if left < 3 else 0)
            await send_json(send, 200, {})

        async with stage.controller.lease(other):
            client = Client(asking("support"))
            await stage.gateway(batch)(client.scope, client.receive, client.send)
        assert await stage.is_idle_soon()


async def test_a_revoked_lease_aborts_every_prompt_that_holds_it() -> None:
    async with running(Stage()) as stage:
        aborted: list[int] = []

        async def batch(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            prompts = [
                stage.leases.admit(VERSION.id, lambda n=n: aborted.append(n))  # type: ignore[misc]
                for n in range(3)
            ]
            admitted = await asyncio.gather(*prompts)
            evicting = asyncio.create_task(stage.controller.evict(VERSION, force=True))
            while not aborted:
                await asyncio.sleep(0)
            for each in admitted:
                each.on_end(WorkDone(1, 1, None))
            assert await evicting
            await send_json(send, 200, {})

        client = Client(asking("support"))
        await stage.gateway(batch)(client.scope, client.receive, client.send)
        assert aborted == [0, 1, 2]
        assert await stage.is_idle_soon()


# ---- what a request leaves behind ----------------------------------------------------------


async def test_a_request_leaves_nothing_for_the_garbage_collector() -> None:
    """Thousands of small cycles a second would make its pauses the pauses of every stream."""
    async with running(Stage()) as stage:
        gateway = stage.gateway(stage.whole_answer)
        for _ in range(3):
            client = Client(asking("support"))
            await gateway(client.scope, client.receive, client.send)
        assert await stage.is_idle_soon()
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                client = Client(asking("support"))
                await gateway(client.scope, client.receive, client.send)
            assert await stage.is_idle_soon()
            del client
            assert gc.collect() == 0
        finally:
            gc.enable()


async def test_a_request_for_a_resident_adapter_creates_no_task() -> None:
    """Nearly all requests are such: a task for the lease and one for the head took 40 µs."""
    async with running(Stage()) as stage:

        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async with stage.generating(VERSION):
                pass
            await send({"type": "http.response.body", "body": b"x", "more_body": False})

        gateway = stage.gateway(route)
        cold, resident = Client(asking("support")), Client(asking("support"))
        await gateway(cold.scope, cold.receive, cold.send)
        assert await stage.is_idle_soon()
        before = asyncio.all_tasks()
        created: list[asyncio.Task[object]] = []

        def create(loop: asyncio.AbstractEventLoop, work: object) -> asyncio.Task[object]:
            created.append(asyncio.Task(work, loop=loop))  # type: ignore[arg-type]  # a coroutine
            return created[-1]

        asyncio.get_running_loop().set_task_factory(create)  # type: ignore[arg-type]  # as above
        try:
            await gateway(resident.scope, resident.receive, resident.send)
        finally:
            asyncio.get_running_loop().set_task_factory(None)
        assert resident.headers["x-adaptry-cache"] == "gpu_hit"
        assert created == []
        assert asyncio.all_tasks() == before


class BrokenRates(RequestRates):
    def count(self, unit: Unit, used: int) -> None:
        raise RuntimeError("the rates are broken")


async def test_a_lease_ends_even_if_what_was_used_can_not_be_counted() -> None:
    rates = BrokenRates(RateWindows(), (), null_refusal_observer)
    async with running(Stage()) as stage:
        request = RequestContext("support", VERSION, rates=rates)
        with request_scope(request):
            admitted = await stage.leases.admit(VERSION.id, _nothing)
        assert stage.policy.lease_count(VERSION.id) == 1
        with pytest.raises(RuntimeError, match="broken"):
            admitted.on_end(WorkDone(1, 1, None))
        assert stage.policy.lease_count(VERSION.id) == 0
