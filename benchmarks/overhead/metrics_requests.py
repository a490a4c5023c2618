"""Overhead of telemetry per request: gateway and controller over a fake engine, in one process."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.events import CacheEvent
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.gateway.in_flight import RequestsInFlight
from engine.gateway.middleware import AdapterGateway
from engine.gateway.request_leases import RequestLeases
from engine.policy.policy import CachePolicy
from engine.ports import Observer, Observers
from engine.telemetry.decision_log import DecisionLog
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.spans import NullTracing, Tracing
from engine.telemetry.tracing import OtlpTracing
from engine.trace.lines import ServerLine
from engine.trace.recorder import NullTrace, TraceRecorder
from engine.trace.segments import TraceSegments
from engine.types import AdapterVersion, CacheOutcome, VersionId, WorkDone

VERSION = AdapterVersion(VersionId(1), "a", 1, "0" * 64, "/a", 8, 100)
BODY = b'{"model": "a", "prompt": "x"}'
POST: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/v1/completions",
    "headers": [(b"content-type", b"application/json")],
}

Row = dict[str, object]


class NullObserver:
    """Watches and counts nothing."""

    def on_event(self, event: CacheEvent) -> None: ...
    def count_request(self, adapter: str, outcome: str, seconds: float) -> None: ...
    def count_refusal(self, code: str) -> None: ...
    def observe_first_token(self, outcome: CacheOutcome, seconds: float) -> None: ...
    def count_tokens(self, adapter: str, prompt: int, generation: int) -> None: ...
    def count_shared_prefix(self, adapter: str, tokens: int) -> None: ...


class OneAdapter:
    async def resolve(self, text: str, user: Any = None) -> AdapterVersion:
        return VERSION

    async def find(self, text: str) -> AdapterVersion:
        return VERSION


WORK = WorkDone(prompt_tokens=3, generated_tokens=64, first_token_at=1.5)


class Discarded(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@contextmanager
def export_spans() -> Iterator[OtlpTracing]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Discarded(), max_queue_size=1_000_000))
    yield OtlpTracing(provider.get_tracer("benchmark"))
    provider.shutdown()


class Requests:
    """Requests for one adapter in its slot, one after the other, with `tokens` outputs each."""

    def __init__(
        self,
        observer: Observer,
        counter: Any,
        tracing: Tracing,
        *,
        tokens: int,
        trace: TraceRecorder | None = None,
    ) -> None:
        backend = FakeBackend(slots=1, host_capacity=1)
        policy = CachePolicy(slots=1, host_capacity=1)
        loader = Loader(backend, UncheckedFiles())
        self._controller = CacheController(policy, backend, loader, observer)
        self._leases = RequestLeases(self._controller, counter)
        self._tokens = tokens
        self._recorder = trace
        self._gateway = AdapterGateway(
            self._generate,
            resolver=OneAdapter(),
            base_models=frozenset(),
            counter=counter,
            tracing=tracing,
            unavailable=lambda: None,
            in_flight=RequestsInFlight(lambda: None),
            own_prefix="/api/",
            max_body_bytes=1000,
            trace=trace or NullTrace(),
        )

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        admitted = await self._leases.admit(VERSION.id, lambda: None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(self._tokens):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        admitted.on_end(WORK)
        await send({"type": "http.response.body", "body": b""})

    async def microseconds(self, count: int) -> float:
        """Of CPU time, for each request."""
        running = asyncio.create_task(self._controller.run())
        for _ in range(100):
            await self._one()
        began = time.process_time()
        for _ in range(count):
            await self._one()
        if self._recorder is not None:
            await self._recorder.flush()  # its thread's time counts too
        spent = time.process_time() - began
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return spent / count * 1e6

    async def _one(self) -> None:
        await self._gateway(POST, _body, _nowhere)


async def _body() -> Message:
    return {"type": "http.request", "body": BODY, "more_body": False}


async def _nowhere(message: Message) -> None:
    return


async def overhead(requests: int, rounds: int, tokens: int) -> list[Row]:
    null, metrics = NullObserver(), CacheMetrics(CollectorRegistry())
    watched = Observers(metrics, DecisionLog())
    with export_spans() as traced, TemporaryDirectory() as folder:
        segments = TraceSegments(Path(folder), 64 * 2**20)
        recorder = TraceRecorder(
            segments, ServerLine(1, 0.0, "here", "b", 1, 1, None, 8, 2, 2.0, "lru")
        )
        kinds: dict[str, tuple[Observer, Any, Tracing, TraceRecorder | None]] = {
            "nothing watches": (null, null, NullTracing(), None),
            "metrics and decisions": (watched, metrics, NullTracing(), None),
            "the same, and arrivals recorded": (
                Observers(watched, recorder),
                metrics,
                NullTracing(),
                recorder,
            ),
            "metrics, decisions and traces": (Observers(watched, traced), metrics, traced, None),
        }
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, (observer, counter, tracing, trace) in kinds.items():
                made = Requests(observer, counter, tracing, tokens=tokens, trace=trace)
                found[kind].append(await made.microseconds(requests))
    medians = {kind: statistics.median(values) for kind, values in found.items()}
    alone = medians["nothing watches"]
    return [
        {
            "outputs per request": tokens,
            "who watches": kind,
            "µs per request": f"{value:.0f}",
            "of it for watching, µs": f"{value - alone:.0f}",
        }
        for kind, value in medians.items()
    ]
