"""The head of a response: each layer adds its headers to it, and a stream's parts pass one call."""

import inspect
from collections.abc import Sequence

from starlette.types import Message, Scope, Send

from registry.http.response_head import Pair, add_to_head


class Sent:
    """The server's `send`, which says how many calls of Python were around it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.depth = 0

    async def _none(self) -> None:
        return

    def __call__(self, message: Message) -> object:
        self.messages.append(message)
        self.depth = len(inspect.stack())
        return self._none()


def layer(name: bytes, seen: list[Sequence[Pair]]) -> object:
    def more(headers: Sequence[Pair]) -> Sequence[Pair]:
        seen.append(list(headers))
        return [(name, b"1")]

    return more


async def through(layers: int, server: Sent, scope: Scope, seen: list[Sequence[Pair]]) -> Send:
    send: Send = server  # type: ignore[assignment]  # awaitable, like a coroutine
    for number in range(layers):
        send = add_to_head(scope, send, layer(b"x-%d" % number, seen))  # type: ignore[arg-type]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"token", "more_body": True})
    return send


async def test_the_inner_layer_adds_its_headers_first_and_the_outer_one_sees_them() -> None:
    server, seen = Sent(), list[Sequence[Pair]]()
    await through(3, server, {"type": "http"}, seen)
    assert server.messages[0]["headers"] == [
        (b"a", b"b"),
        *((b"x-2", b"1"), (b"x-1", b"1"), (b"x-0", b"1")),
    ]
    assert seen[-1] == server.messages[0]["headers"][:-1]
    assert server.messages[1] == {"type": "http.response.body", "body": b"token", "more_body": True}


async def test_a_token_passes_one_call_however_many_layers_there_are() -> None:
    one, many = Sent(), Sent()
    await through(1, one, {"type": "http"}, [])
    await through(5, many, {"type": "http"}, [])
    assert many.depth == one.depth


async def test_nothing_of_a_response_stays_in_its_scope_for_the_collector() -> None:
    scope: Scope = {"type": "http"}
    await through(2, Sent(), scope, [])
    assert scope == {"type": "http"}


async def test_a_scope_that_is_used_again_has_no_layers_of_before() -> None:
    scope: Scope = {"type": "http"}
    await through(2, Sent(), scope, [])
    server = Sent()
    await through(1, server, scope, [])
    assert server.messages[0]["headers"] == [(b"a", b"b"), (b"x-0", b"1")]
