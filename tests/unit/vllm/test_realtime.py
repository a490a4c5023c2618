"""vLLM's WebSocket route for speech: it serves the base model, and refuses names of adapters."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.speech_to_text.realtime.api_router import router
from vllm.entrypoints.speech_to_text.realtime.serving import OpenAIServingRealtime

from engine.gateway.middleware import AdapterGateway
from engine.gateway.request_context import RequestedAdapters
from engine.telemetry.spans import NullTracing
from engine.types import AdapterVersion
from engine.vllm.arguments import parse_engine_arguments
from tests.support.cache.controller_harness import A


class Engine:
    """Says a word, and keeps what it was asked with."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def generate(self, **given: Any) -> AsyncIterator[Any]:
        self.asked.append(given)
        said = SimpleNamespace(text="hello", token_ids=[1])
        yield SimpleNamespace(outputs=[said], prompt_token_ids=[1, 2])

    async def abort(self, request_id: str) -> None:
        pass


class OneAdapter:
    async def resolve(self, text: str, user: object = None) -> AdapterVersion:
        return A

    async def find(self, text: str) -> AdapterVersion:
        return A


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def client(engine: Engine) -> TestClient:
    models: Any = object.__new__(OpenAIServingModels)
    models.lora_requests = RequestedAdapters(lambda version: version)
    paths = [SimpleNamespace(name="base")]
    models.registry = SimpleNamespace(
        base_model_paths=paths, is_base_model=lambda name: name == "base"
    )
    serving: Any = object.__new__(OpenAIServingRealtime)
    serving.models, serving.engine_client = models, engine
    serving.model_cls = SimpleNamespace(realtime_max_tokens=8)
    serving.transcribe_realtime = lambda audio, tokens: audio
    app = FastAPI()
    app.include_router(router)
    app.state.openai_serving_realtime = serving
    unused: Any = None
    gateway = AdapterGateway(
        app,
        resolver=OneAdapter(),
        base_models=frozenset({"base"}),
        counter=unused,
        tracing=NullTracing(),
        unavailable=lambda: None,
        in_flight=unused,
        own_prefix="/api/",
        max_body_bytes=1000,
    )

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        await gateway(scope, receive, send)

    return TestClient(served)


def test_no_variable_lets_the_base_model_answer_for_another_name(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_SKIP_MODEL_NAME_VALIDATION", "1")
    parse_engine_arguments("model", [])  # as each start does
    with client.websocket_connect("/v1/realtime") as socket:
        socket.receive_json()
        socket.send_json({"type": "session.update", "model": "nobody"})
        assert socket.receive_json()["code"] == "model_not_found"
    assert engine.asked == []


def test_the_name_of_an_adapter_is_refused_and_the_base_model_serves(
    client: TestClient, engine: Engine
) -> None:
    with client.websocket_connect("/v1/realtime") as socket:
        assert socket.receive_json()["type"] == "session.created"
        socket.send_json({"type": "session.update", "model": "a1"})
        refused = socket.receive_json()
        assert (refused["type"], refused["code"]) == ("error", "model_not_found")
        assert refused["error"] == "The model `a1` does not exist."
        socket.send_json({"type": "input_audio_buffer.commit"})
        assert socket.receive_json()["code"] == "model_not_validated"
        assert engine.asked == []
        socket.send_json({"type": "session.update", "model": "base"})
        socket.send_json({"type": "input_audio_buffer.commit"})
        assert socket.receive_json()["delta"] == "hello"
        assert socket.receive_json()["text"] == "hello"
    (asked,) = engine.asked
    assert "lora_request" not in asked
