"""An exception that nothing expects: a 500 with an id, and no text of it anywhere."""

import logging
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from registry.errors import InternalError
from registry.http.csrf import CsrfMiddleware
from registry.http.unexpected_errors import UnexpectedErrorMiddleware

MARKER = "SELECT secret FROM prompts"


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].endswith("/late"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        raise ValueError(MARKER)
    except ValueError as error:
        raise RuntimeError(MARKER) from error


def client() -> httpx.AsyncClient:
    app = CsrfMiddleware(UnexpectedErrorMiddleware(failing))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


def code_of(content: dict[str, Any]) -> str:
    return str(content.get("error", content)["code"])


@pytest.mark.parametrize("path", ["/api/v1/adapters", "/v1/completions", "/v1/messages"])
async def test_it_is_answered_with_an_id_that_the_log_has(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await client().get(path)
    assert (answer.status_code, code_of(answer.json())) == (500, InternalError.code)
    assert answer.headers["x-content-type-options"] == "nosniff"
    (line,) = [r.getMessage() for r in caplog.records if "internal error" in r.getMessage()]
    error_id = line.split()[2]
    assert error_id in answer.text
    assert "RuntimeError" in line
    assert "ValueError" in line, "the cause"
    assert "test_unexpected_errors.py" in line, "the place"
    assert MARKER not in answer.text + caplog.text


async def test_the_dialect_is_the_routes() -> None:
    problem = await client().get("/api/v1/adapters")
    assert problem.headers["content-type"] == "application/problem+json"
    anthropic = (await client().get("/v1/messages")).json()
    assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "api_error")
    openai = (await client().get("/v1/completions")).json()["error"]
    assert {"message", "type", "param", "code"} == openai.keys()


async def test_a_response_that_has_started_is_not_answered_twice() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and sent:
            raise RuntimeError("a response has started")  # as uvicorn does
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/late", "headers": []}
    await UnexpectedErrorMiddleware(failing)(scope, receive, send)
    assert len(sent) == 1
