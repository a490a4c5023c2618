"""What vLLM's routes refuse or raise: bounded, without the input, in the dialect of the route."""

import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from jinja2 import TemplateError
from pydantic import BaseModel, ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler
from vllm.exceptions import VLLMValidationError

from engine.errors import AdapterForcedOut
from engine.gateway.body_validation import (
    ValidTokenIds,
    first_error_validator,
    stop_at_first_error,
)
from engine.gateway.request_context import RequestContext
from engine.vllm.error_handlers import handle_errors
from engine.vllm.log_privacy import hide_exception_texts
from registry.http.unexpected_errors import UnexpectedErrorMiddleware
from tests.support.cache.controller_harness import A
from tests.support.running_requests import request_scope

MARKER = "MARKERFOUR"
RAISED = {
    "value": ValueError(MARKER),
    "vllm": VLLMValidationError(MARKER, parameter="prompt"),
    "template": TemplateError(MARKER),
    "missing": HTTPException(404, "no"),
    "unexpected": KeyError(MARKER),
    "generation": NotImplementedError(MARKER),
}


class Arguments:
    log_error_stack = True


@pytest.fixture(scope="module")
def app() -> FastAPI:
    app = FastAPI()
    app.state.args = Arguments()
    init_exception_handler(app)

    @app.post("/v1/responses")
    async def responses(body: ResponsesRequest) -> str:
        return "taken"

    @app.post("/v1/chat/completions")
    async def chat(body: ChatCompletionRequest) -> str:
        return "taken"

    @app.post("/v1/completions")
    async def completions(body: CompletionRequest) -> str:
        return "taken"

    @app.get("/{where:path}/raise/{what}")
    async def raise_it(where: str, what: str) -> None:
        raise RAISED[what]

    handle_errors(app)
    stop_at_first_error(app.routes)
    app.add_middleware(UnexpectedErrorMiddleware)
    return app


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    hide_exception_texts()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter().format(record))

    handler = Handler()
    loggers = logging.getLogger(), logging.getLogger("vllm")
    for each in loggers:
        each.addHandler(handler)
    yield lines
    for each in loggers:
        each.removeHandler(handler)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "zzz", "a": MARKER}]}]}),
    ("/v1/responses", {"input": [{"role": MARKER, "content": MARKER}]}),
    ("/v1/chat/completions", {"messages": [{"role": 1, "content": MARKER}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": MARKER}], "stream": MARKER}),
    ("/v1/completions", {"prompt": [MARKER, 1]}),
    ("/v1/completions", {"prompt": MARKER, "logit_bias": {"1": MARKER}}),
    ("/v1/completions", {"prompt": MARKER, "max_tokens": "many"}),
]


@pytest.mark.parametrize(("path", "body"), REFUSED)
async def test_a_refused_body_is_neither_logged_nor_answered(
    client: httpx.AsyncClient, log: list[str], path: str, body: dict[str, Any]
) -> None:
    answer = await client.post(path, json={"model": "a", **body})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "invalid_request"
    assert len(answer.content) < 10_000
    assert MARKER not in answer.text
    assert MARKER not in "\n".join(log)


@pytest.mark.parametrize(
    ("path", "of", "body"),
    [
        (
            "/v1/responses",
            ResponsesRequest,
            {"input": [{"role": "user", "content": [{"type": "zzz"}]}] * 3000},
        ),
        (
            "/v1/chat/completions",
            ChatCompletionRequest,
            {"messages": [{"role": 1, "content": MARKER}] * 20_000},
        ),
        ("/v1/completions", CompletionRequest, {"prompt": [[1.5] * 200_000]}),
    ],
)
async def test_validation_ends_at_the_first_item_that_is_wrong(
    client: httpx.AsyncClient, log: list[str], path: str, of: type[BaseModel], body: dict[str, Any]
) -> None:
    """All errors of the first took 11 s."""
    wrong = {"model": "a", **body}
    with pytest.raises(ValidationError) as caught:
        first_error_validator(of.__pydantic_core_schema__).validate_python(wrong)
    assert caught.value.error_count() < 1000, "of 3,000 items and more"
    answer = await client.post(path, json=wrong)
    assert answer.status_code == 400
    assert len(answer.content) < 10_000
    assert sum(map(len, log)) < 10_000


async def test_validation_ends_soon_in_an_object_whose_members_are_wrong(
    client: httpx.AsyncClient, log: list[str]
) -> None:
    schema = CompletionRequest.__pydantic_core_schema__
    biases = {str(n): MARKER for n in range(16_000)}
    wrong = {"model": "a", "prompt": "x", "logit_bias": biases}
    with pytest.raises(ValidationError) as caught:
        first_error_validator(schema).validate_python(wrong)
    assert caught.value.error_count() <= 64, "16,000 without"
    answer = await client.post("/v1/completions", json=wrong)
    assert answer.status_code == 400
    assert "logit_bias.0" in answer.json()["error"]["message"]
    late = {**{str(n): 0.5 for n in range(1000)}, "1000": MARKER}
    answer = await client.post("/v1/completions", json={**wrong, "logit_bias": late})
    assert answer.status_code == 400
    assert "logit_bias.1000" in answer.json()["error"]["message"]


@pytest.mark.parametrize("members", [0, 1, 64, 65, 1000])
def test_a_large_object_that_is_valid_is_taken_whole(members: int) -> None:
    biases = {str(n): n / 2 for n in range(members)}
    validator = first_error_validator(CompletionRequest.__pydantic_core_schema__)
    body = {"model": "a", "prompt": "x", "logit_bias": biases}
    assert validator.validate_python(body).logit_bias == biases


async def test_what_is_valid_is_taken(client: httpx.AsyncClient) -> None:
    chat = {"model": "a", "messages": [{"role": "user", "content": "x"}] * 20}
    assert (await client.post("/v1/chat/completions", json=chat)).json() == "taken"
    for prompt in ("x", ["x", "y"], [1, 2, 3], [[1, 2], [3]]):
        body = {"model": "a", "prompt": prompt}
        assert (await client.post("/v1/completions", json=body)).json() == "taken"


@pytest.mark.parametrize(
    ("where", "what", "status", "code"),
    [
        ("v1/x", "value", 400, "invalid_request"),
        ("v1/x", "vllm", 400, "invalid_request"),
        ("v1/x", "template", 400, "invalid_request"),
        ("v1/x", "missing", 404, "not_found"),
        ("v1/x", "unexpected", 500, "internal_error"),
        ("v1/messages", "value", 400, "invalid_request"),
        ("api/v1", "value", 500, "internal_error"),
        ("api/v1", "missing", 404, "not_found"),
    ],
)
async def test_what_a_route_raises(
    client: httpx.AsyncClient, log: list[str], where: str, what: str, status: int, code: str
) -> None:
    answer = await client.get(f"/{where}/raise/{what}")
    content = answer.json()
    assert (answer.status_code, content.get("error", content)["code"]) == (status, code)
    assert MARKER not in "\n".join(log)
    if status == 500:
        assert MARKER not in answer.text


async def test_unknown_routes_and_methods_answer_in_the_dialect(client: httpx.AsyncClient) -> None:
    unknown = await client.post("/api/v1/nothing")
    assert unknown.headers["content-type"] == "application/problem+json"
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    wrong = await client.put("/v1/responses")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["allow"]
    anthropic = (await client.get("/v1/messages/none")).json()
    assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "not_found_error")


def test_token_ids_that_were_validated_before_are_not_again() -> None:
    validator = first_error_validator(CompletionRequest.__pydantic_core_schema__)
    unchecked: Any = [1, "not looked at", 3]
    ids = ValidTokenIds(unchecked)
    found = validator.validate_python({"model": "base", "prompt": ids}).prompt
    assert found == ids
    assert type(found) is list, "its own: what a route does to it is no other one's matter"
    for prompt in ([1, "x", 3], [-1], [1.5]):
        with pytest.raises(ValidationError):
            validator.validate_python({"model": "base", "prompt": prompt})
    assert validator.validate_python({"model": "base", "prompt": "text"}).prompt == "text"


async def test_what_fails_as_this_server_has_ended_it_is_no_unexpected_error(
    client: httpx.AsyncClient, log: list[str]
) -> None:
    with request_scope(RequestContext("a1", A, failure=AdapterForcedOut("a1:1"))):
        answer = await client.get("/v1/responses/raise/generation")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "adapter_forced_out")
    assert not any("internal error" in line for line in log)
