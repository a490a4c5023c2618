"""Tracing: OpenTelemetry spans of requests, within the client's trace and above vLLM's own span.

vLLM sets up the tracer provider when it has an OTLP endpoint. It takes the parent of its
`llm_request` from the `trace_headers` passed to `generate` and `encode` (0.26 to 0.32).
"""

import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from engine.errors import EngineError
from engine.events import CacheEvent, LoadFailed, MovedIn
from engine.telemetry.spans import Headers, RequestSpans
from engine.types import AdapterVersion, CacheOutcome, Lease, Transition, VersionId

_W3C = TraceContextTextMapPropagator()
_TRACE_HEADERS = (b"traceparent", b"tracestate")
_SPAN_NAMES = {
    Transition.DISK_TO_HOST: "adaptry.load",
    Transition.HOST_TO_GPU: "adaptry.activate",
}
_TRANSITIONS_OF = {
    CacheOutcome.GPU_HIT: frozenset[Transition](),
    CacheOutcome.HOST_HIT: frozenset({Transition.HOST_TO_GPU}),
    CacheOutcome.MISS: frozenset(Transition),
}


@dataclass(eq=False, slots=True)
class _SlotWaiter:
    """A request, and the transitions of its adapter that have not been reported yet."""

    request: Span
    context: Context  # the request's
    version: AdapterVersion
    slot_wait: Span
    transitions: set[Transition] = field(default_factory=lambda: set(Transition))

    def record_lease(self, lease: Lease) -> None:
        self.transitions &= _TRANSITIONS_OF[lease.outcome]
        for span in (self.request, self.slot_wait):
            span.set_attribute("adaptry.cache_result", lease.outcome)


class OtlpTracing:
    """Implements `Tracing` and observes the cache: a load is a span of each request that waits."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._awaiting: dict[VersionId, list[_SlotWaiter]] = {}

    @contextmanager
    def request(self, scope: Scope) -> Iterator[RequestSpans]:
        method = scope.get("method", "GET")  # a WebSocket begins with one
        span = self._tracer.start_span(
            "adaptry.request",
            context=_W3C.extract(_headers(scope)),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.path": scope["path"]},
        )
        spans = _OtlpSpans(self._tracer, span, self._awaiting)
        try:
            yield spans
        finally:
            spans.end()

    def trace_id_of(self, version: VersionId, transition: Transition) -> str | None:
        """Of a sampled request that waits for this transition."""
        for awaiting in self._awaiting.get(version, ()):
            context = awaiting.request.get_span_context()
            if transition in awaiting.transitions and context.trace_flags.sampled:
                return trace.format_trace_id(context.trace_id)
        return None

    def on_event(self, event: CacheEvent) -> None:
        match event:
            case MovedIn(version=version, transition=transition, seconds=seconds):
                self._end_transition(version, transition, seconds, None)
            case LoadFailed(version=version, transition=transition, error=error):
                self._end_transition(version, transition, 0.0, error)

    def _end_transition(
        self,
        version: AdapterVersion,
        transition: Transition,
        seconds: float,
        error: EngineError | None,
    ) -> None:
        end = time.time_ns()
        for awaiting in self._awaiting.get(version.id, ()):
            if transition not in awaiting.transitions:
                continue
            awaiting.transitions.discard(transition)
            span = self._tracer.start_span(
                _SPAN_NAMES[transition],
                context=awaiting.context,
                start_time=end - int(seconds * 1e9),
                attributes=_version_attributes(version),
            )
            if error is not None:
                _note_error(span, error.code)
            span.end(end)


class _OtlpSpans:
    """Implements `RequestSpans`."""

    def __init__(
        self, tracer: Tracer, span: Span, awaiting: dict[VersionId, list[_SlotWaiter]]
    ) -> None:
        self._tracer = tracer
        self._span = span
        self._context = trace.set_span_in_context(span)
        self._awaiting = awaiting
        self._own: list[_SlotWaiter] = []
        self._has_ended = False

    def record_version(self, version: AdapterVersion) -> None:
        self._span.set_attributes(_version_attributes(version))

    def record_response(self, status: int | None, code: str | None) -> None:
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if code is not None:
            _note_error(self._span, code)

    def end(self) -> None:
        """Its activation may be reported while the request generates, but not after it."""
        self._has_ended = True
        for awaiting in self._own:
            others = self._awaiting[awaiting.version.id]
            others.remove(awaiting)
            if not others:
                del self._awaiting[awaiting.version.id]
        self._span.end()

    @contextmanager
    def resolve_span(self) -> Iterator[None]:
        with self._child("adaptry.resolve", {}):
            yield

    @contextmanager
    def slot_wait_span(self, version: AdapterVersion) -> Iterator[_SlotWaiter]:
        with self._child("adaptry.slot_wait", _version_attributes(version)) as span:
            awaiting = _SlotWaiter(self._span, self._context, version, span)
            if (
                not self._has_ended
            ):  # else it is waited for behind the answer, and no caller ends that
                self._own.append(awaiting)
                self._awaiting.setdefault(version.id, []).append(awaiting)
            yield awaiting

    @contextmanager
    def generate_span(self) -> Iterator[Headers]:
        with self._child("adaptry.generate", {}) as span:
            headers: dict[str, str] = {}
            _W3C.inject(headers, trace.set_span_in_context(span))
            yield headers

    @contextmanager
    def _child(self, name: str, attributes: Mapping[str, str]) -> Iterator[Span]:
        span = self._tracer.start_span(name, context=self._context, attributes=attributes)
        try:
            yield span
        except (Exception, CancelledError) as error:
            _note_error(span, getattr(error, "code", type(error).__name__))
            raise
        finally:
            span.end()


def _version_attributes(version: AdapterVersion) -> dict[str, str]:
    return {"adaptry.adapter": version.adapter, "adaptry.version": version.reference}


def _note_error(span: Span, code: str) -> None:
    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR))


def _headers(scope: Scope) -> dict[str, str]:
    given = [pair for pair in scope["headers"] if pair[0] in _TRACE_HEADERS]
    return {name.decode(): value.decode("latin-1") for name, value in given}
