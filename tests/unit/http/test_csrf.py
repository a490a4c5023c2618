"""No other site's page changes anything through a visitor's browser."""

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from engine.vllm.arguments import parse_engine_arguments
from registry.http.csrf import CsrfMiddleware

BASE = "http://127.0.0.1:8000"
FRIEND = "https://friend.example"


async def answer(
    method: str, headers: dict[str, str], allowed: tuple[str, ...] = ()
) -> httpx.Response:
    async def reached(request: Request) -> PlainTextResponse:
        return PlainTextResponse("reached", headers={"x-frame-options": "SAMEORIGIN"})

    app = Starlette(routes=[Route("/{path:path}", reached, methods=["GET", "POST", "DELETE"])])
    transport = httpx.ASGITransport(CsrfMiddleware(app, allowed=allowed))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        return await client.request(method, "/api/v1/gc", headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl, our client, OpenAI's
        {"sec-fetch-site": "same-origin", "origin": BASE},  # the console
        {"sec-fetch-site": "none"},  # typed into the address bar
        {"origin": BASE},  # a browser of before 2023
        {"sec-fetch-site": "same-origin", "origin": "https://public.example"},  # a proxy's Host
    ],
)
async def test_programs_and_our_own_pages_may(headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert (await answer(method, headers)).text == "reached"


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site", "origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"origin": "http://[::1"},
        {"origin": ""},
    ],
)
async def test_other_pages_may_not_change_anything(headers: dict[str, str]) -> None:
    for method in ("POST", "DELETE"):
        refused = await answer(method, headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "cross_origin")
        assert refused.headers["content-type"] == "application/problem+json"
    assert (await answer("GET", headers)).text == "reached", "whose answer they can't read"


async def test_other_pages_may_open_no_websocket() -> None:
    """A browser sends it as a GET, and its page could read the answers."""
    reached: list[str] = []
    sent: list[Message] = []

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append("reached")

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def opened_by(origin: str) -> None:
        headers = [(b"host", b"127.0.0.1:8000"), (b"origin", origin.encode())]
        scope = {"type": "websocket", "path": "/v1/realtime", "headers": headers}
        await CsrfMiddleware(inside)(scope, receive, send)

    await opened_by("https://evil.example")
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "cross_origin"}]
    assert not reached
    await opened_by(BASE)
    assert reached == ["reached"]


async def test_pages_that_are_allowed_may() -> None:
    headers = {"sec-fetch-site": "cross-site", "origin": FRIEND}
    assert (await answer("POST", headers, allowed=(FRIEND,))).text == "reached"
    assert (await answer("POST", headers, allowed=("*",))).text == "reached"
    assert (await answer("POST", headers, allowed=(f"{FRIEND}:8443",))).status_code == 403


async def test_every_response_has_the_security_headers() -> None:
    for headers in ({}, {"origin": "https://evil.example"}):
        reported = (await answer("POST", headers)).headers
        assert reported["x-content-type-options"] == "nosniff"
        assert reported["referrer-policy"] == "no-referrer"
        assert len(reported.get_list("x-frame-options")) == 1, "what the application says counts"


def test_by_default_no_site_may_read_answers() -> None:
    """vLLM's own default was every site, up to 0.31."""
    parsed: Any = parse_engine_arguments("model", [])
    assert parsed.allowed_origins == []
    given: Any = parse_engine_arguments("model", ["--allowed-origins", f'["{FRIEND}"]'])
    assert given.allowed_origins == [FRIEND]
