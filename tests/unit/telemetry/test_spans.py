"""Spans: of requests that wait for one load, of failed loads, and the state they leave."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from starlette.types import Scope

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.errors import AdapterLoadFailed
from engine.events import MovedIn
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.policy import CachePolicy
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.tracing import OtlpTracing
from engine.types import AdapterVersion, CacheOutcome, Lease, Transition
from tests.support.cache.controller_harness import A, B, until

POST: Scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}


class Traced:
    """Leases under traced requests, over a fake engine."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = OtlpTracing(provider.get_tracer("test"))
        self.backend = FakeBackend(slots=1, host_capacity=2, load_seconds=0.05)
        loader = Loader(self.backend, UncheckedFiles(), pauses=())
        policy = CachePolicy(slots=1, host_capacity=2)
        self.controller = CacheController(policy, self.backend, loader, self.tracing)

    async def use(self, version: AdapterVersion) -> None:
        with self.tracing.request(POST) as spans:
            with spans.slot_wait_span(version) as wait:
                lease = self.controller.lease(version)
                wait.record_lease(await lease.__aenter__())
            with spans.generate_span() as headers:
                assert headers is not None
                assert headers["traceparent"].startswith("00-")
                await until(lambda: version.id in self.backend.gpu)
                await asyncio.sleep(0.005)
            await lease.__aexit__(None, None, None)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    made = Traced()
    running = asyncio.create_task(made.controller.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_every_request_that_waits_for_a_load_has_it_in_its_trace(traced: Traced) -> None:
    await asyncio.gather(traced.use(A), traced.use(A), traced.use(A))
    assert traced.backend.loads == [A.id]
    requests = {s.context.span_id for s in traced.spans("adaptry.request") if s.context}
    assert len(requests) == 3
    for name in ("adaptry.load", "adaptry.activate"):
        parents = [span.parent.span_id for span in traced.spans(name) if span.parent]
        assert len(parents) == 3
        assert set(parents) == requests
    for load in traced.spans("adaptry.load"):
        assert load.start_time is not None
        assert load.end_time is not None
        assert load.end_time - load.start_time >= 0.05e9


async def test_a_host_hit_is_activated_and_not_loaded(traced: Traced) -> None:
    for version in (A, B, A):
        await traced.use(version)
    assert len(traced.spans("adaptry.load")) == 2
    assert len(traced.spans("adaptry.activate")) == 3
    results = [
        (s.attributes or {})["adaptry.cache_result"] for s in traced.spans("adaptry.request")
    ]
    assert results == ["miss", "miss", "host_hit"]


async def test_a_load_that_fails_is_an_error_in_the_trace(traced: Traced) -> None:
    traced.backend.broken.add(A.id)
    with pytest.raises(AdapterLoadFailed):
        await traced.use(A)
    for name in ("adaptry.load", "adaptry.slot_wait"):
        (span,) = traced.spans(name)
        assert not span.status.is_ok
        assert (span.attributes or {})["error.type"] == "adapter_load_failed"
    assert json.loads(traced.spans("adaptry.load")[0].to_json())["attributes"] == {
        "adaptry.adapter": "a1",
        "adaptry.version": "a1:1",
        "error.type": "adapter_load_failed",
    }


async def test_an_ended_request_leaves_no_state(traced: Traced) -> None:
    await traced.use(A)
    with traced.tracing.request(POST) as spans, spans.slot_wait_span(B):
        trace_id = traced.tracing.trace_id_of(B.id, Transition.DISK_TO_HOST)
        assert trace_id is not None
        assert len(trace_id) == 32
    assert traced.tracing.trace_id_of(B.id, Transition.DISK_TO_HOST) is None
    assert not traced.tracing._awaiting


async def test_a_wait_behind_the_end_of_its_request_leaves_no_state(traced: Traced) -> None:
    """Of work in the background whose request was cancelled."""
    with traced.tracing.request(POST) as spans:
        pass
    with spans.slot_wait_span(B) as wait:
        wait.record_lease(Lease(B, CacheOutcome.MISS, 0.0, 0.0))
    assert not traced.tracing._awaiting


async def test_loads_that_a_request_did_not_need_are_not_in_its_trace(traced: Traced) -> None:
    """Its slot was already filled, though the engine has yet to report it."""
    with traced.tracing.request(POST) as spans:
        with spans.slot_wait_span(A) as wait:
            wait.record_lease(Lease(A, CacheOutcome.GPU_HIT, 0.0, 0.0))
        traced.tracing.on_event(MovedIn(A, Transition.HOST_TO_GPU, 0.1))
    assert not traced.spans("adaptry.activate")


async def test_a_load_is_counted_with_the_trace_of_a_waiting_request(traced: Traced) -> None:
    collectors = CollectorRegistry()
    metrics = CacheMetrics(collectors)
    metrics.link_exemplars(traced.tracing.trace_id_of)
    with traced.tracing.request(POST) as spans, spans.slot_wait_span(A):
        trace_id = traced.tracing.trace_id_of(A.id, Transition.DISK_TO_HOST)
        for version in (A, B):
            metrics.on_event(MovedIn(version, Transition.DISK_TO_HOST, 0.2 * version.id))
    exemplars = [
        (sample.exemplar.labels, sample.exemplar.value)
        for family in collectors.collect()
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert exemplars == [({"trace_id": trace_id}, 0.2)], "no request waits for the other one"
