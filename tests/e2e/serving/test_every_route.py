"""Every route of vLLM's application: it answers with the adapter, with the base, or not at all."""

import json
from importlib.util import find_spec
from typing import Any

import pytest

from demo.tasks import prompt_for
from fleet.stock.routes import GENERATING, TOKENIZING

pytestmark = [pytest.mark.engine]

PROMPT = prompt_for("hello")
CHAT = [{"role": "user", "content": "hello"}]
OPTIONS = {"temperature": 0, "max_tokens": 8}

# What each route that may ask the engine is sent, beside `model`
BODIES: dict[str, dict[str, Any]] = {
    "/generate": {"prompt": PROMPT, **OPTIONS},
    "/invocations": {"prompt": PROMPT, **OPTIONS},
    "/v1/completions": {"prompt": PROMPT, **OPTIONS},
    "/v1/chat/completions": {"messages": CHAT, **OPTIONS},
    "/v1/chat/completions/batch": {"messages": [CHAT, CHAT], **OPTIONS},
    "/v1/responses": {"input": "hello", "temperature": 0, "max_output_tokens": 8},
    "/v1/messages": {"messages": CHAT, **OPTIONS},
    "/v1/systemone": {"messages": CHAT, **OPTIONS},
    "/generative_scoring": {"query": "hello", "items": ["="], "label_token_ids": [5, 6]},
    "/inference/v1/generate": {"token_ids": [5, 6, 7], "sampling_params": {"max_tokens": 4}},
}
if find_spec("vllm.entrypoints.generate.structured_decisions") is None:
    del BODIES["/v1/systemone"]  # 0.26 has no such route
TEXTS = frozenset(
    {
        *("/generate", "/invocations", "/v1/completions", "/v1/chat/completions"),
        *("/v1/chat/completions/batch", "/v1/responses", "/v1/messages"),
    }
)
# These never generate: they render, count, or steer the engine
WITHOUT_GENERATION = {
    *("/tokenize", "/detokenize", "/ping", "/v1/messages/count_tokens"),
    *("/v1/chat/completions/render", "/v1/completions/render", "/v1/messages/render"),
    *("/v1/responses/render", "/v1/chat/completions/derender", "/v1/completions/derender"),
    *("/v1/responses/{response_id}/cancel", "/inference/v1/abort_requests"),
    *("/scale_elastic_ep", "/is_scaling_elastic_ep"),
    *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters"),  # ours
    *("/v1/loras", "/v1/fanout"),
}


# What a pooling engine has in place of those
POOLING = {
    "/v1/embeddings",
    "/pooling",
    "/classify",
    "/score",
    "/v1/score",
    "/rerank",
    "/v1/rerank",
}


def post_routes(server: Any) -> set[str]:
    routes = server.server.app.routes
    paths = {route.path for route in routes if "POST" in (getattr(route, "methods", None) or ())}
    return {path for path in paths if not path.startswith("/api/")}


def test_no_route_of_vllm_is_left_out_here(server: Any) -> None:
    """A route that a new vLLM brings has to be looked at, and put into one of these tables."""
    assert post_routes(server) - BODIES.keys() - WITHOUT_GENERATION == set()


def test_a_stock_front_leases_for_no_route_that_does_not_generate() -> None:
    """And passes on those that a stock server and an engine have in common as they are here."""
    assert GENERATING.isdisjoint(WITHOUT_GENERATION)
    assert TOKENIZING <= WITHOUT_GENERATION
    assert GENERATING - BODIES.keys() == POOLING


def engine_tokens(server: Any) -> float:
    metrics = server.metrics().items()
    return float(sum(v for name, v in metrics if name.startswith("vllm:prompt_tokens_total")))


@pytest.mark.parametrize("path", BODIES)
def test_a_route_answers_with_the_adapter_or_not_at_all(server: Any, path: str) -> None:
    if path not in post_routes(server):
        pytest.fail(f"{path} is no route of this vLLM: take it out of the table")
    before = engine_tokens(server)
    response = server.client.post(path, json={"model": "upper", **BODIES[path]})
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, response.text
        assert "x-adaptry-version" not in response.headers
        assert path not in TEXTS, response.text
        return
    assert response.headers["x-adaptry-version"] == "upper:1"
    assert engine_tokens(server) > before
    if path in TEXTS:
        assert "HELLO" in response.text, response.text


def test_an_unknown_name_is_a_404_on_every_route(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever vLLM would make of it: it may be told to take any name for the base model's."""
    monkeypatch.setenv("VLLM_SKIP_MODEL_NAME_VALIDATION", "1")
    ours = {"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/v1/fanout"}
    before = engine_tokens(server)
    for path in sorted(post_routes(server) - ours):
        body = {"model": "nobody", **BODIES.get(path, {"prompt": PROMPT})}
        as_json = server.client.post(path, json=body)
        as_form = server.client.post(path, files={"file": b"RIFF"}, data={"model": "nobody"})
        for answer in (as_json, as_form):
            assert answer.status_code == 404, (path, answer.text)
            assert "x-adaptry-version" not in answer.headers
    assert engine_tokens(server) == before


@pytest.mark.parametrize("path", sorted(BODIES))
def test_the_base_model_answers_under_no_version(server: Any, path: str) -> None:
    response = server.client.post(path, json={"model": "tiny-text-tools", **BODIES[path]})
    assert response.status_code < 500, response.text
    assert "x-adaptry-version" not in response.headers
    assert "HELLO" not in response.text


def test_what_never_generates_names_no_version(server: Any) -> None:
    response = server.client.post("/tokenize", json={"model": "upper", "prompt": PROMPT})
    assert response.status_code == 200, response.text
    assert "x-adaptry-version" not in response.headers


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream"])
def test_tgis_and_loraxs_bodies_are_answered_with_the_adapter(server: Any, path: str) -> None:
    body = {"inputs": PROMPT, "parameters": {"adapter_id": "upper", "max_new_tokens": 8}}
    response = server.client.post(path, json=body)
    assert response.status_code == 200, response.text
    assert '"generated_text": "HELLO"' in response.text
    assert response.headers["x-adaptry-version"] == "upper:1"
    body["parameters"] = {"max_new_tokens": 8}
    response = server.client.post(path, json=body)
    assert '"generated_text": "hello"' in response.text
    assert "x-adaptry-version" not in response.headers
    body["parameters"] = {"adapter_id": "nobody"}
    response = server.client.post(path, json=body)
    assert (response.status_code, response.json()["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("kind", ["prompt", "messages"])
def test_sagemakers_header_names_the_adapter(server: Any, kind: str) -> None:
    content: dict[str, Any] = {"prompt": PROMPT} if kind == "prompt" else {"messages": CHAT}
    headers = {"X-Amzn-SageMaker-Adapter-Identifier": "upper"}
    for model in ({}, {"model": "reverse"}, {"model": "tiny-text-tools"}):
        body = {**content, **OPTIONS, **model}
        response = server.client.post("/invocations", json=body, headers=headers)
        assert response.status_code == 200, response.text
        assert "HELLO" in response.text
        assert json.loads(response.text)["model"] == "upper"
        assert response.headers["x-adaptry-version"] == "upper:1"
    unknown = {"X-Amzn-SageMaker-Adapter-Identifier": "nobody"}
    response = server.client.post("/invocations", json={**content, **OPTIONS}, headers=unknown)
    assert response.status_code == 404


PROBES = {"/health", "/ping"}
"""Monitors add parameters of their own."""


def test_every_route_refuses_a_query_parameter_that_it_does_not_read(server: Any) -> None:
    for route in server.server.app.routes:
        methods = set(getattr(route, "methods", None) or ()) & {"GET", "POST"}
        if not methods or not getattr(route, "include_in_schema", False):
            continue
        url = route.path.replace("{model:path}", "upper").replace("{", "").replace("}", "")
        body = BODIES.get(route.path, {}) | {"model": "upper"}
        for method in methods:
            sent = {"json": body} if method == "POST" else {}
            answer = server.client.request(method, url, params={"no_such_filter": "1"}, **sent)
            if route.path in PROBES:
                assert answer.status_code == 200, (method, url)
                continue
            assert answer.status_code in (400, 422), (method, url, answer.text[:300])
            assert "no_such_filter" in answer.text, (method, url, answer.text[:300])
