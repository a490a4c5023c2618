"""The OpenAI endpoint as its clients see it: SDK, streams, chat, errors, and `/generate`."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from demo.tasks import TASKS, prompt_for
from tests.conftest import ROOT

pytestmark = [pytest.mark.engine]

BASE = "tiny-text-tools"


@pytest.fixture
def sdk(server: Any) -> Iterator[openai.OpenAI]:
    url = f"{server.base_url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_the_model_list_shows_all_models_that_can_be_requested(
    server: Any, sdk: openai.OpenAI
) -> None:
    listed = {model.id: model for model in sdk.models.list()}
    assert {BASE, *TASKS} <= set(listed)
    assert server.client.get("/api/v1/cache").json()["host"] == [], "listed, though not loaded"
    root = str(getattr(listed["upper"], "root", ""))
    assert root == str(ROOT / "demo" / "adapters" / "upper"), "as vLLM says where it is from"


def test_completion_and_chat_through_the_sdk(sdk: openai.OpenAI) -> None:
    completion = sdk.completions.create(
        model="upper", prompt=prompt_for("hello"), temperature=0, max_tokens=16
    )
    assert completion.choices[0].text == "HELLO"
    assert completion.model == "upper"
    chat = sdk.chat.completions.create(
        model="reverse", messages=[{"role": "user", "content": "hello"}], temperature=0
    )
    assert chat.choices[0].message.content == "olleh"
    assert chat.model == "reverse"


def test_streams_through_the_sdk(sdk: openai.OpenAI) -> None:
    chunks = sdk.chat.completions.create(
        model="rot13@default",
        messages=[{"role": "user", "content": "hello"}],
        temperature=0,
        stream=True,
    )
    seen = list(chunks)
    assert "".join(c.choices[0].delta.content or "" for c in seen if c.choices) == "uryyb"
    assert {c.model for c in seen} == {"rot13@default"}
    text = sdk.completions.create(
        model="double:1", prompt=prompt_for("abc"), temperature=0, stream=True, max_tokens=16
    )
    assert "".join(c.choices[0].text for c in text if c.choices) == "aabbcc"


def test_a_streamed_answer_carries_the_headers_too(server: Any) -> None:
    body = {"model": "upper", "prompt": "x=", "stream": True}
    with server.client.stream("POST", "/v1/completions", json=body) as response:
        assert response.headers["x-adaptry-version"] == "upper:1"
        assert response.headers["x-adaptry-cache"] == "miss"
        assert float(response.headers["x-adaptry-load-ms"]) > 0
        response.read()


@pytest.mark.parametrize(
    "model",
    [
        *("nobody", "upper:99", "upper@beta", "No/Such/Model", "upper@", "../etc/passwd"),
        *("gpt 4 o", "größe", "x" * 300, "upper:nope"),
    ],
)
def test_an_unknown_adapter_is_an_openai_404_without_an_engine_call(
    server: Any, sdk: openai.OpenAI, model: str
) -> None:
    before = server.metrics()
    for stream in (False, True):
        body = {"model": model, "prompt": "x=", "stream": stream}
        response = server.client.post("/v1/completions", json=body)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (404, "model_not_found")
        assert (error["type"], error["param"]) == ("NotFoundError", "model")
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])
    after = server.metrics()
    lookups = [name for name in after if name.startswith("adaptry_cache_lookups")]
    assert lookups
    assert all(after[name] == before[name] for name in lookups)


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "[]",
        "{}",
        '{"model": 7, "prompt": "x"}',
        '{"model": "upper"}',
        '{"model": "upper", "prompt": "x", "max_tokens": "many"}',
        '{"model": "upper", "prompt": "x", "temperature": -1}',
        '{"model": "upper", "prompt": {"a": 1}}',
        '{"model": "upper", "messages": "x"}',
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/generate"])
def test_bad_bodies_are_the_clients_fault_not_ours(server: Any, path: str, body: str) -> None:
    response = server.client.post(path, content=body, headers={"content-type": "application/json"})
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["error"]["message"]


def test_several_prompts_and_several_answers(server: Any) -> None:
    response = server.complete("upper", [prompt_for("abc"), prompt_for("xyz")])
    assert [c["text"] for c in response.json()["choices"]] == ["ABC", "XYZ"]
    response = server.complete("upper", prompt_for("abc"), n=2, temperature=0.01)
    assert [c["text"] for c in response.json()["choices"]] == ["ABC", "ABC"]


def test_generate_answers_a_bare_curl(server: Any) -> None:
    body = {"prompt": prompt_for("hello"), "model": "upper", "max_tokens": 10, "temperature": 0}
    command = ["curl", "-sS", f"{server.base_url}/generate", "-d", json.dumps(body)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert answer["text"] == ["HELLO"]
    assert answer["usage"]["prompt_tokens"] == len(prompt_for("hello"))
    assert answer["usage"]["total_tokens"] == (
        answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    )
    base = server.client.post("/generate", json={"prompt": "hello=", "max_tokens": 8})
    assert base.status_code == 200
    unknown = server.client.post("/generate", json={"prompt": "hello=", "model": "nobody"})
    assert unknown.status_code == 404


def test_tokenising_for_an_adapter_loads_nothing(server: Any) -> None:
    response = server.client.post("/tokenize", json={"model": "upper", "prompt": "abc"})
    assert response.status_code == 200
    assert response.json()["count"] == 3
    assert server.client.get("/api/v1/cache").json()["host"] == []


def test_health_docs_and_the_description_of_the_api(server: Any) -> None:
    assert server.client.get("/healthz").json() == {"status": "ok"}
    ready = server.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["parts"] == {"engine": "ok", "database": "ok", "store": "ok"}
    paths = server.client.get("/openapi.json").json()["paths"]
    assert "/api/v1/adapters/{name}/versions" in paths
    assert "/api/v1/cache" in paths
    assert "/v1/chat/completions" in paths
    page = server.client.get("/docs").text
    assert "https://" not in page.replace("https://fastapi.tiangolo.com", ""), "works offline"


def test_vllms_own_metrics_are_beside_ours(server: Any) -> None:
    server.complete("upper", prompt_for("hello"))
    names = set(server.metrics())
    assert any(name.startswith("vllm:") for name in names)
    assert any(name.startswith("adaptry_") for name in names)
