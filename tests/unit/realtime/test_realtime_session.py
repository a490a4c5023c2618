"""Realtime sessions over vLLM's own route: what they name, what the engine is asked, how they end.

The engine is a stand-in. `tests/e2e/serving/test_speech.py` has the real one.
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.speech_to_text.realtime.api_router import router
from vllm.entrypoints.speech_to_text.realtime.serving import OpenAIServingRealtime

from engine.errors import EnginePaused, EngineUnavailable, QueueFull
from engine.gateway.in_flight import RequestsInFlight
from engine.gateway.request_context import RequestedAdapters, current_request
from engine.realtime.engine import RealtimeEngine
from engine.realtime.gateway import RealtimeGateway
from engine.realtime.transcription import Controls
from engine.telemetry.spans import NullTracing, Tracing
from engine.telemetry.tracing import OtlpTracing
from engine.trace.recorder import EndedRequest
from engine.types import AdapterVersion, CacheOutcome, Lease
from engine.vllm.arguments import parse_engine_arguments
from registry.auth.caller import Caller, as_caller, current_caller, no_check
from registry.auth.rate_limits import RateLimits
from registry.auth.scopes import EVERY_SCOPE
from registry.errors import InvalidKey, UnknownAdapter
from registry.http.rate_limits import RateLimitMiddleware
from registry.quotas.limits import TenantLimits
from registry.rates.caller_rates import CallerRates
from registry.rates.windows import RateWindows
from tests.support.cache.controller_harness import A

AUDIO = {"type": "input_audio_buffer.append", "audio": "AAAAAA=="}
START = {"type": "input_audio_buffer.commit"}
END = {"type": "input_audio_buffer.commit", "final": True}
_NO_TRACES = NullTracing()


class Engine:
    """Says a word for each part of the audio, and keeps what it was asked with."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.aborted: list[str] = []
        self.error: Exception | None = None
        self.refused_by: QueueFull | None = None
        self.is_cut = False

    async def generate(self, prompt: Any, **given: Any) -> AsyncGenerator[Any, None]:
        self.asked.append(given)
        if (request := current_request()) is not None and request.version is not None:
            if self.refused_by is not None:
                request.on_refused(self.refused_by)
                raise RuntimeError("vLLM hides the cause") from self.refused_by
            request.on_leased(Lease(request.version, CacheOutcome.GPU_HIT, 0.0, 0.0))
        async for _ in prompt:
            if self.error is not None:
                raise self.error
            said = SimpleNamespace(text="hello", token_ids=[1])
            yield SimpleNamespace(outputs=[said], prompt_token_ids=[1, 2])
            if self.is_cut:  # as vLLM's ends what this server aborts
                assert request is not None
                request.is_admitted, request.cut = True, "failed"
                return

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    @property
    def adapters(self) -> list[Any]:
        return [given.get("lora_request") for given in self.asked]


class OneAdapter:
    """`a1`, until it is gone."""

    def __init__(self) -> None:
        self.names = {"a1"}

    async def resolve(self, text: str, user: object = None) -> AdapterVersion:
        if text not in self.names:
            raise UnknownAdapter(text)
        return A

    async def find(self, text: str) -> AdapterVersion:
        return A


class Counter:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.refusals: list[str] = []
        self.traced: list[EndedRequest] = []

    def count_request(self, adapter: str, outcome: str, seconds: float) -> None:
        self.requests.append((adapter, outcome))

    def count_refusal(self, code: str) -> None:
        self.refusals.append(code)

    def add_request(self, request: EndedRequest) -> None:
        self.traced.append(request)


class LostWindows(RateWindows):
    """What others share is gone since it was taken from."""

    async def correct(self, subject: str, most: int, minute: int, by: int) -> None:
        raise ConnectionError("on purpose")


class Stage:
    """vLLM's route between our gateway and the stand-in. `caller`: who opens the session."""

    def __init__(
        self,
        *,
        default: str | None = None,
        silence_seconds: float = 60.0,
        most: int | None = None,
        tracing: Tracing = _NO_TRACES,
        windows: RateWindows | None = None,
    ) -> None:
        self.engine, self.resolver, self.counter = Engine(), OneAdapter(), Counter()
        self.why: EngineUnavailable | None = None
        self.caller = Caller("acme~app", EVERY_SCOPE)
        self.check: Callable[[], Any] = no_check
        limits = TenantLimits(max_requests_in_flight=most)
        self.in_flight = RequestsInFlight(lambda: current_caller().tenant, lambda _: limits)
        controls = Controls(
            self.resolver,
            self.counter,
            self.in_flight,
            lambda: self.why,
            self.counter,
            tracing,
            1000,
        )
        gateway = RealtimeGateway(
            self._application(),
            controls=controls,
            base_models=frozenset({"base"}),
            default_adapter=default,
            silence_seconds=silence_seconds,
        )
        limited = RateLimitMiddleware(
            gateway,
            rates=CallerRates(windows or RateWindows(), lambda _: TenantLimits()),
        )

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            with as_caller(self.caller, self._check):
                await limited(scope, receive, send)

        self.client = TestClient(served)

    def _application(self) -> FastAPI:
        models: Any = object.__new__(OpenAIServingModels)
        models.lora_requests = RequestedAdapters(lambda version: version)
        models.registry = SimpleNamespace(
            base_model_paths=[SimpleNamespace(name="base")],
            is_base_model=lambda name: name == "base",
        )
        serving: Any = object.__new__(OpenAIServingRealtime)
        serving.models = models
        serving.engine_client = RealtimeEngine(self.engine, lambda version: version.reference)
        serving.model_cls = SimpleNamespace(realtime_max_tokens=8)
        serving.transcribe_realtime = _as_prompt
        app = FastAPI()
        app.include_router(router)
        app.state.openai_serving_realtime = serving
        return app

    async def _check(self) -> None:
        await self.check()

    def open(self, **headers: str) -> WebSocketTestSession:
        return self.client.websocket_connect("/v1/realtime", headers=headers)


async def _as_prompt(audio: AsyncIterator[Any], tokens: object) -> AsyncGenerator[Any, None]:
    async for part in audio:
        yield part


def named(socket: WebSocketTestSession, model: object) -> None:
    socket.send_json({"type": "session.update", "model": model})


def transcribed(socket: WebSocketTestSession) -> list[dict[str, Any]]:
    """The events of one transcription."""
    for event in (START, AUDIO, END):
        socket.send_json(event)
    return until_end(socket)


def until_end(socket: WebSocketTestSession) -> list[dict[str, Any]]:
    events = [socket.receive_json()]
    while events[-1]["type"] == "transcription.delta":
        events.append(socket.receive_json())
    return events


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_the_engine_is_asked_for_the_adapter_that_the_session_named(stage: Stage) -> None:
    with stage.open() as socket:
        assert socket.receive_json()["type"] == "session.created"
        named(socket, "a1")
        first, last = transcribed(socket)
    assert stage.engine.adapters == [A.reference]
    assert (first["delta"], last["type"], last["text"]) == ("hello", "transcription.done", "hello")
    assert first["headers"]["x-adaptry-version"] == A.reference
    assert first["headers"]["x-adaptry-cache"] == "gpu_hit"
    assert "headers" not in last
    assert stage.counter.requests == [(A.adapter, "completed")]
    (ended,) = stage.counter.traced
    assert (ended.version, ended.tenant, ended.outcome) == (A, "acme", "completed")


def test_the_base_model_is_named_between_two_adapters(stage: Stage) -> None:
    with stage.open() as socket:
        socket.receive_json()
        events = []
        for model in ("a1", "base", "a1"):
            named(socket, model)
            events.append(transcribed(socket)[0])
    assert stage.engine.adapters == [A.reference, None, A.reference]
    assert ["headers" in event for event in events] == [True, False, True]


def test_an_unknown_name_is_refused_as_vllm_does_and_the_session_keeps_its_model(
    stage: Stage,
) -> None:
    with stage.open() as socket:
        socket.receive_json()
        socket.send_json(START)
        named(socket, "nobody")
        assert socket.receive_json()["code"] == "model_not_validated"
        refused = socket.receive_json()
        assert (refused["type"], refused["code"]) == ("error", "model_not_found")
        assert refused["error"] == "the model 'nobody' does not exist"
        named(socket, "a1")
        named(socket, "nobody")
        assert socket.receive_json()["code"] == "model_not_found"
        transcribed(socket)
    assert stage.engine.adapters == [A.reference]
    assert stage.counter.refusals == ["model_not_found"] * 2


def test_no_variable_lets_the_base_model_answer_for_another_name(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_SKIP_MODEL_NAME_VALIDATION", "1")
    parse_engine_arguments("model", [])  # as each start does
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "nobody")
        assert socket.receive_json()["code"] == "model_not_found"
    assert stage.engine.asked == []


def test_an_adapter_that_is_gone_meanwhile_ends_the_next_transcription(stage: Stage) -> None:
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        transcribed(socket)
        stage.resolver.names.clear()
        (refused,) = transcribed(socket)
    assert (refused["type"], refused["code"]) == ("error", "model_not_found")
    assert len(stage.engine.asked) == 1


def test_the_default_adapter_answers_for_the_base_model() -> None:
    stage = Stage(default="a1")
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "base")
        transcribed(socket)
    assert stage.engine.adapters == [A.reference]


def test_a_name_in_escapes_is_read_as_vllm_reads_it(stage: Stage) -> None:
    with stage.open() as socket:
        socket.receive_json()
        socket.send_text('{"type": "session\\u002eupdate", "model": "a\\u0031"}')
        transcribed(socket)
    assert stage.engine.adapters == [A.reference]


def test_what_the_cache_refuses_is_the_last_event_without_vllms_error(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.engine.refused_by = QueueFull(7, 3)
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        (refused,) = transcribed(socket)
    assert (refused["type"], refused["code"]) == ("error", "queue_full")
    assert refused["error"] == "7 requests already wait for a GPU slot"
    assert stage.counter.refusals == ["queue_full"]
    assert stage.counter.requests == [(A.adapter, "refused")]
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("model", ["a1", "base"])
@pytest.mark.parametrize("is_paused", [True, False])
def test_what_is_forced_out_after_its_first_words_is_not_done(
    stage: Stage, model: str, is_paused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stage.engine.is_cut = True
    with stage.open() as socket:
        socket.receive_json()
        named(socket, model)
        socket.send_json(START)
        stage.why = EnginePaused() if is_paused else None
        socket.send_json(AUDIO)
        word, last = until_end(socket)
        assert (word["delta"], last["type"]) == ("hello", "error")
        forced_out = "adapter_forced_out" if model == "a1" else "generation_incomplete"
        assert last["code"] == ("engine_paused" if is_paused else forced_out)
        stage.engine.is_cut, stage.why = False, None
        assert transcribed(socket)[-1]["type"] == "transcription.done"
    assert stage.counter.traced[0].outcome == "failed"
    assert stage.counter.refusals == [last["code"]]
    assert "Traceback" not in caplog.text


def test_nothing_begins_without_an_engine(stage: Stage) -> None:
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        stage.why = EngineUnavailable("it ended")
        (refused,) = transcribed(socket)
    assert refused["code"] == "engine_unavailable"
    assert stage.engine.asked == []


def test_a_revoked_key_begins_nothing_more(stage: Stage) -> None:
    async def revoked() -> None:
        raise InvalidKey

    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        transcribed(socket)
        stage.check = revoked
        (refused,) = transcribed(socket)
    assert refused["code"] == "invalid_key"
    assert len(stage.engine.asked) == 1


def test_a_transcription_counts_against_the_tenants_requests_in_flight() -> None:
    stage = Stage(most=1)
    with stage.open() as socket, stage.open() as other:
        for each in (socket, other):
            each.receive_json()
            named(each, "a1")
        socket.send_json(START)
        socket.send_json(AUDIO)
        socket.receive_json()
        (refused,) = transcribed(other)
        assert refused["code"] == "tenant_limit"
        assert not stage.in_flight.is_first_token_awaited(), "registrations don't rest for speech"
        socket.send_json(END)
        until_end(socket)
        assert transcribed(other)[-1]["type"] == "transcription.done"
    assert stage.in_flight.of("acme") == 0


def test_each_transcription_is_a_request_of_the_key(stage: Stage) -> None:
    """The first one is the request that opened the session."""
    stage.caller = Caller("acme~app", EVERY_SCOPE, rates=RateLimits(max_requests_per_minute=2))
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        kinds = [transcribed(socket)[-1] for _ in range(3)]
    assert [kind["type"] for kind in kinds] == ["transcription.done"] * 2 + ["error"]
    assert kinds[-1]["code"] == "rate_limit_exceeded"


def test_the_bytes_of_its_events_are_counted(stage: Stage) -> None:
    stage.caller = Caller("acme~app", EVERY_SCOPE, rates=RateLimits(max_bytes_per_minute=100))
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "x" * 100)
        socket.receive_json()
    with pytest.raises(WebSocketDisconnect) as refused, stage.open():
        pass
    assert refused.value.reason == "rate_limit_exceeded"


def test_a_client_that_leaves_is_counted_as_cancelled(stage: Stage) -> None:
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        socket.send_json(START)
        socket.send_json(AUDIO)
        socket.receive_json()
    assert stage.counter.requests == [(A.adapter, "cancelled")]
    assert len(stage.engine.aborted) == 1
    assert not stage.in_flight.has_any()


def test_a_client_that_stops_sending_audio_is_disconnected_and_holds_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(silence_seconds=0.2)
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        socket.send_json(START)
        socket.send_json(AUDIO)
        socket.receive_json()
        assert socket.receive_json()["code"] == "audio_stopped"
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    assert not stage.in_flight.has_any()
    assert "Traceback" not in caplog.text


def test_a_silent_client_without_a_transcription_stays() -> None:
    stage = Stage(silence_seconds=0.05)
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        transcribed(socket)
        time.sleep(0.2)
        assert transcribed(socket)[-1]["type"] == "transcription.done"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x00\x01", "body_not_text"),
        ("[" * 5000, "body_too_deep"),
        (json.dumps([0] * 2000), "body_too_many_values"),
        ("nonsense", "invalid_json"),
        ('{"type": "session.update"}', "invalid_event"),
        ('{"type": "session.update", "model": 7}', "model_not_found"),
    ],
)
def test_a_bad_event_is_answered_and_the_session_goes_on(
    stage: Stage, sent: str | bytes, code: str
) -> None:
    with stage.open() as socket:
        socket.receive_json()
        if isinstance(sent, bytes):
            socket.send_bytes(sent)
        else:
            socket.send_text(sent)
        assert socket.receive_json()["code"] == code
        named(socket, "a1")
        assert transcribed(socket)[-1]["type"] == "transcription.done"


def test_an_error_of_vllms_stays_vllms(stage: Stage) -> None:
    stage.engine.error = ValueError("too long")
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        (failed,) = transcribed(socket)
    assert (failed["error"], failed["code"]) == ("too long", "processing_error")
    assert stage.counter.requests == [(A.adapter, "failed")]


def test_what_can_not_be_settled_is_counted() -> None:
    stage = Stage(windows=LostWindows())
    stage.caller = Caller("acme~app", EVERY_SCOPE, rates=RateLimits(max_tokens_per_minute=100))
    with stage.open() as socket:
        socket.receive_json()
        named(socket, "a1")
        transcribed(socket)
    assert stage.counter.requests == [(A.adapter, "completed")]
    assert len(stage.counter.traced) == 1


def test_each_transcription_is_a_request_in_the_trace_of_its_client() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    stage = Stage(tracing=OtlpTracing(provider.get_tracer("test")))
    trace, client = "ab" * 16, "cd" * 8
    with stage.open(traceparent=f"00-{trace}-{client}-01") as socket:
        socket.receive_json()
        named(socket, "a1")
        transcribed(socket)
        stage.engine.refused_by = QueueFull(7, retry_after_seconds=3)
        transcribed(socket)
        stage.resolver.names.clear()
        transcribed(socket)
        named(socket, "base")
        stage.engine.error = ValueError("quotes what was said")
        transcribed(socket)
    spans = exporter.get_finished_spans()
    requests = [span for span in spans if span.name == "adaptry.request"]
    assert [(span.parent.span_id if span.parent else 0) for span in requests] == [
        int(client, 16)
    ] * 4
    assert {span.context.trace_id for span in spans if span.context} == {int(trace, 16)}
    found = [dict(span.attributes or {}) for span in requests]
    route = {"http.request.method": "GET", "url.path": "/v1/realtime"}
    version = {"adaptry.adapter": A.adapter, "adaptry.version": A.reference}
    assert found == [
        route | version,
        route | version | {"error.type": "queue_full"},
        route | {"error.type": "model_not_found"},
        route | {"error.type": "internal_error"},
    ]
    assert [span.name for span in spans].count("adaptry.resolve") == 3
    assert "quotes what was said" not in "".join(span.to_json() for span in spans)
