"""Headers of a request: read through once for all layers, and again once they are others."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from registry.auth.caller import ANONYMOUS, Caller
from registry.http.authentication import AuthenticationMiddleware
from registry.http.body_limit import BodyLimit, BodyLimitMiddleware
from registry.http.csrf import CsrfMiddleware
from registry.http.headers import find_header, find_headers, is_form

Pairs = list[tuple[bytes, bytes]]


class Counted(Pairs):
    """Headers that count how often they are gone through."""

    def __init__(self, pairs: Pairs) -> None:
        super().__init__(pairs)
        self.reads = 0

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        self.reads += 1
        return super().__iter__()


def scope_with(headers: Pairs) -> Scope:
    return {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}


async def test_the_layers_of_a_request_go_through_its_headers_once() -> None:
    seen: list[str | None] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(find_header(scope, b"x-adaptry-user"))

    async def authenticate(key: str) -> Caller:
        seen.append(key)
        return ANONYMOUS

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None: ...

    limited: Any = BodyLimitMiddleware(
        application, limit_of=lambda scope: BodyLimit(10 + is_form(scope)), timeout_seconds=5
    )
    layers = CsrfMiddleware(AuthenticationMiddleware(limited, authenticate=authenticate))
    headers = Counted(
        [
            (b"authorization", b"Bearer k"),
            (b"content-length", b"2"),
            (b"content-type", b"application/json"),
            (b"x-adaptry-user", b"ann"),
        ]
    )
    await layers(scope_with(headers), receive, send)
    assert seen == ["k", "ann"]
    assert headers.reads == 1


def test_the_first_of_a_name_counts() -> None:
    scope = scope_with([(b"a", b"\xe9"), (b"b", b"x"), (b"a", b"2")])
    assert find_header(scope, b"a") == "é"
    assert find_headers(scope, b"a") == ["é", "2"]
    assert find_header(scope, b"c") is None


def test_headers_that_a_layer_replaced_are_read() -> None:
    scope = scope_with([(b"a", b"1")])
    assert find_header(scope, b"a") == "1"
    inner = {**scope, "headers": [(b"a", b"2")]}
    assert (find_header(inner, b"a"), find_header(scope, b"a")) == ("2", "1")
    scope["headers"] = []
    assert find_header(scope, b"a") is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(b"Multipart/Form-data; boundary=x", True), (b"application/json", False), (None, False)],
)
def test_a_form_has_several_parts(kind: bytes | None, expected: bool) -> None:
    headers = [] if kind is None else [(b"content-type", kind)]
    assert is_form(scope_with(headers)) is expected
