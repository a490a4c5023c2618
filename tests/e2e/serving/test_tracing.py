"""Traces over a real OTLP receiver: our spans and vLLM's in one, below the client's own."""

import secrets
from collections.abc import Iterator

import pytest

from demo.tasks import prompt_for
from tests.support.docs.scrape import scraped
from tests.support.servers.adaptry_serve import ServedDemo
from tests.support.servers.otlp_receiver import ReceivedSpan, Receiver, receiving

pytestmark = [pytest.mark.servers("forked")]

BELOW = {"adaptry.resolve", "adaptry.slot_wait", "adaptry.generate"}
ALL = {"adaptry.request", *BELOW, "adaptry.load", "adaptry.activate", "llm_request"}
PROMPT = "purple-elephant"


@pytest.fixture(scope="module")
def receiver() -> Iterator[tuple[Receiver, str]]:
    with receiving() as started:
        yield started


@pytest.fixture(scope="module")
def served(
    receiver: tuple[Receiver, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedDemo]:
    demo = ServedDemo(tmp_path_factory.mktemp("traced"))
    demo.arguments = ("--otlp-traces-endpoint", receiver[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patch.setenv("OMP_NUM_THREADS", "1")
        try:
            demo.start()
            for name in ("upper", "reverse"):
                demo.register(name)
            yield demo
        finally:
            demo.stop()
            demo.client.close()


def traced(served: ServedDemo, model: str, *, sampled: bool = True) -> tuple[str, str]:
    """One request within a trace of its client: (trace, the client's span)."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    body = {"model": model, "prompt": prompt_for(PROMPT), "max_tokens": 8, "temperature": 0}
    headers = {"traceparent": f"00-{trace}-{span}-{'01' if sampled else '00'}"}
    served.client.post("/v1/completions", json=body, headers=headers)
    return trace, span


def test_a_cold_request_is_one_trace_down_to_vllm(
    served: ServedDemo, receiver: tuple[Receiver, str]
) -> None:
    trace, client = traced(served, "upper")
    spans = receiver[0].wait_for(trace, ALL)
    request = spans["adaptry.request"]
    assert spans.keys() == ALL
    assert request.parent == client
    for name in (*BELOW, "adaptry.load", "adaptry.activate"):
        assert spans[name].parent == request.id, name
        assert spans[name].end >= spans[name].start
    assert spans["llm_request"].parent == spans["adaptry.generate"].id
    assert request.attributes == {
        "http.request.method": "POST",
        "url.path": "/v1/completions",
        "http.response.status_code": 200,
        "adaptry.adapter": "upper",
        "adaptry.version": "upper:1",
        "adaptry.cache_result": "miss",
    }
    version = {"adaptry.adapter": "upper", "adaptry.version": "upper:1"}
    assert spans["adaptry.load"].attributes == version
    assert spans["adaptry.activate"].attributes == version
    assert spans["adaptry.slot_wait"].attributes == version | {"adaptry.cache_result": "miss"}
    assert inside(spans["adaptry.slot_wait"], request)
    assert inside(spans["adaptry.load"], request)
    assert not any(span.is_error for span in spans.values())


def inside(inner: ReceivedSpan, outer: ReceivedSpan) -> bool:
    return outer.start <= inner.start <= inner.end <= outer.end


def test_a_hit_has_neither_load_nor_activation(
    served: ServedDemo, receiver: tuple[Receiver, str]
) -> None:
    traced(served, "reverse")
    trace, _ = traced(served, "reverse")
    spans = receiver[0].wait_for(trace, {"adaptry.request", "llm_request"})
    assert spans.keys() == {"adaptry.request", *BELOW, "llm_request"}
    assert spans["adaptry.request"].attributes["adaptry.cache_result"] == "gpu_hit"


def test_the_base_model_generates_below_our_request(
    served: ServedDemo, receiver: tuple[Receiver, str]
) -> None:
    trace, _ = traced(served, "tiny-text-tools")
    spans = receiver[0].wait_for(trace, {"adaptry.request", "llm_request"})
    assert spans.keys() == {"adaptry.request", "adaptry.generate", "llm_request"}
    assert spans["llm_request"].parent == spans["adaptry.generate"].id


def test_a_refusal_says_its_code(served: ServedDemo, receiver: tuple[Receiver, str]) -> None:
    trace, _ = traced(served, "nobody-knows-me")
    spans = receiver[0].wait_for(trace, {"adaptry.request", "adaptry.resolve"})
    request = spans["adaptry.request"]
    assert request.is_error
    assert request.attributes["error.type"] == "model_not_found"
    assert request.attributes["http.response.status_code"] == 404
    assert spans["adaptry.resolve"].attributes["error.type"] == "unknown_adapter"


def test_the_load_s_exemplar_leads_to_its_trace(
    served: ServedDemo, receiver: tuple[Receiver, str]
) -> None:
    for name in ("upper", "reverse"):
        served.client.post("/api/v1/cache/evict", json={"reference": name})
    trace, _ = traced(served, "upper")
    receiver[0].wait_for(trace, ALL)
    untraced, _ = traced(served, "reverse", sampled=False)
    exemplars = {
        sample.exemplar.labels["trace_id"]
        for family in scraped(served.client)
        if family.name == "adaptry_load_seconds"
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert trace in exemplars
    assert untraced not in exemplars


def test_a_client_without_a_trace_gets_one_of_its_own(
    served: ServedDemo, receiver: tuple[Receiver, str]
) -> None:
    before = {span.id for span in receiver[0].spans}

    def new() -> list[ReceivedSpan]:
        return [span for span in receiver[0].spans if span.id not in before]

    served.complete("upper")
    # The server and vLLM's engine each send their own spans, whichever is first.
    receiver[0].until(lambda: {"adaptry.request", "llm_request"} <= {s.name for s in new()})
    (request,) = [span for span in new() if span.name == "adaptry.request"]
    assert request.parent == ""
    assert {span.trace for span in new()} == {request.trace}


def test_every_process_is_called_as_the_service(
    served: ServedDemo, receiver: tuple[Receiver, str]
) -> None:
    trace, _ = traced(served, "upper")
    receiver[0].wait_for(trace, {"adaptry.request"})
    assert receiver[0].services == {"adaptry"}


def test_no_span_carries_a_prompt(receiver: tuple[Receiver, str]) -> None:
    content = receiver[0].bytes_received
    assert b"adaptry.request" in content
    assert PROMPT.encode() not in content
    assert PROMPT.upper().encode() not in content
