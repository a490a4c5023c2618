"""The body of a request: parsed once, as Python's parser reads it, and handed on to the routes."""

import json
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, model_validator
from starlette.types import Message

from engine.gateway.parsed_request import parse_bodies_once
from engine.gateway.request_body import UNPARSED, RequestBody, hand_on_body

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(VALUES, st.booleans())
def test_a_body_is_parsed_as_python_parses_it(value: Any, is_ascii: bool) -> None:
    content = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    assert parsed(content) == pythons(content)


@pytest.mark.parametrize(
    "content",
    [
        *(b'{"a": 1, "a": 2}', b"[NaN, -Infinity]", b"[1e400]", b"[-0, -0.0, 1E+5, 5e-324]"),
        *(b"[123456789012345678901234567890]", b'["\\ud800"]', b"\xef\xbb\xbf{}", b'["\x7f"]'),
        *(b"[1.]", b"[01]", b"[1,]", b"{'a': 1}", b'["a\nb"]', b'["\xff"]', b"[1]\0", b"null"),
    ],
)
def test_odd_bodies_too(content: bytes) -> None:
    assert parsed(content) == pythons(content)


def test_a_large_body_is_not_left_to_the_slow_parser() -> None:
    assert RequestBody(b"[NaN, 1]").parsed is not UNPARSED
    assert RequestBody(b"[NaN," + b"1," * 2**19 + b"1]").parsed is UNPARSED


def parsed(content: bytes) -> str:
    """Told apart: 1 and 1.0, 0.0 and -0.0; NaN equals itself."""
    found = RequestBody(content).parsed
    return "none" if found is UNPARSED else repr(found)


def pythons(content: bytes) -> str:
    try:
        return repr(json.loads(content))
    except ValueError:
        return "none"


async def test_a_body_is_received_once_and_not_where_it_was_read_otherwise() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    again = RequestBody(b"{}").replay(receive)
    assert [await again(), await again()] == [
        {"type": "http.request", "body": b"{}", "more_body": False},
        {"type": "http.disconnect"},
    ]
    read = RequestBody(b"{}")
    read.is_read = True
    assert await read.replay(receive)() == {"type": "http.disconnect"}


async def test_a_route_reads_what_the_gateway_parsed_and_nothing_again() -> None:
    body = RequestBody(b'{"prompt": "x"}')
    app = FastAPI()
    seen: list[Any] = []

    @app.post("/v1/completions")
    async def complete(prompt: Annotated[str, Body(embed=True)], raw: Request) -> None:
        seen.extend([prompt, await raw.json(), await raw.body()])

    parse_bodies_once(app.routes)
    answer: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body has been read")

    async def send(message: Message) -> None:
        answer.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    hand_on_body(scope, body)
    await app(scope, receive, send)
    assert answer[0]["status"] == 200
    assert seen[0] == "x"
    assert seen[1] is body.parsed
    assert seen[2] is body.content


class Careless(BaseModel):
    """Looks into a member as some of vLLM's models do, before anything has checked its type."""

    options: dict[str, int] = {}

    @model_validator(mode="before")
    @classmethod
    def count(cls, data: Any) -> Any:
        data.get("options", {}).get("n")
        return data


@pytest.mark.parametrize("wrong", [[], "auto", 5, [None], True])
async def test_a_member_that_a_validator_can_not_read_is_the_bodys_fault(wrong: Any) -> None:
    app = FastAPI()

    @app.post("/direct")
    async def direct(body: Careless) -> None: ...

    @app.post("/invocations")
    async def invocations(raw: Request) -> None:
        TypeAdapter(Careless).validate_python(await raw.json())

    @app.post("/defect")
    async def defect(body: dict[str, Any]) -> None:
        body["options"].no_such_attribute()

    parse_bodies_once(app.routes)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        for path, status in (("/direct", 422), ("/invocations", 422), ("/defect", 500)):
            answer = await http.post(path, json={"options": wrong})
            assert answer.status_code == status, (path, answer.text)
