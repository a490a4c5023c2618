"""Inner call: a request that this server sends to itself, on the same way as one from outside.

It passes the same checks of its caller, is resolved, leased, limited and counted like any other.
When its task is cancelled, it ends as one does whose client leaves.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Scope

from engine.gateway.body_validation import ValidTokenIds
from engine.gateway.request_body import RequestBody, hand_on_body
from registry.http.rate_limits import request_rates, with_rates

_SAME = ("type", "http_version", "scheme", "server", "client", "state", "extensions")
_OF_ONE_BODY = frozenset(
    {b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"accept"}
    | {b"x-request-id", b"expect"}
)
_END = b"\n\n"
_DATA, _DONE = b"data: ", b"[DONE]"
_LEAVE_SECONDS = 5.0
_SPEC = "2.3"  # from 2.4 on Starlette's streams do not look whether their client has left

OnHead = Callable[["InnerAnswer"], Awaitable[None]]
OnData = Callable[[bytes], Awaitable[None]]
"""Called with the data of each event of a stream, but for its end."""


@dataclass
class InnerAnswer:
    """`body` of a whole response; a stream's events were passed on, and are not kept."""

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def content(self) -> Any:
        """Its JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


async def call_inside(
    app: ASGIApp,
    outer: Scope,
    path: str,
    content: Mapping[str, Any],
    *,
    on_head: OnHead | None = None,
    on_data: OnData | None = None,
) -> InnerAnswer:
    """POST the content as the caller of the request `outer`. `on_head`: when the head is there."""
    body = _make_body(content)
    call = _InnerCall(body.content, on_head, on_data)
    scope = call.scope(outer, path)
    if (rates := request_rates(outer)) is not None:  # of an ingress: a server's own replaces them
        scope = with_rates(scope, rates)
    hand_on_body(scope, body)
    work = app(scope, call.receive, call.send)
    running = asyncio.ensure_future(work)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await call.leave(running)
        raise
    return call.answer


def _make_body(content: Mapping[str, Any]) -> RequestBody:
    """Token ids, which `FanoutRequest` has validated, are handed on as they are: each model's
    gateway and route would parse and validate the same ones again.
    """
    ids = content.get("prompt")
    if not isinstance(ids, list):
        return RequestBody(json.dumps(content).encode())
    options = json.dumps({name: content[name] for name in content if name != "prompt"})
    try:
        written = msgspec.json.encode(ids)  # 15 times as fast
    except OverflowError:  # more than 64 bits
        return RequestBody(json.dumps(content).encode())
    body = b'{"prompt": %b, %b' % (written, options.removeprefix("{").encode())
    return RequestBody(body, parsed={**json.loads(options), "prompt": ValidTokenIds(ids)})


class _InnerCall:
    def __init__(
        self,
        body: bytes,
        on_head: OnHead | None,
        on_data: OnData | None,
    ) -> None:
        self.answer = InnerAnswer()
        self._body: bytes | None = body
        self._left = asyncio.Event()
        self._length = len(body)
        self._on_head = on_head
        self._on_data = on_data
        self._rest = b""

    def scope(self, outer: Scope, path: str) -> Scope:
        root = outer.get("root_path", "")
        headers = [pair for pair in outer["headers"] if pair[0] not in _OF_ONE_BODY]
        return {
            **{name: outer[name] for name in _SAME if name in outer},
            "asgi": {"version": "3.0", "spec_version": _SPEC},
            "method": "POST",
            "root_path": root,
            "path": root + path,
            "raw_path": (root + path).encode(),
            "query_string": b"",
            "headers": [
                *headers,
                (b"content-type", b"application/json"),
                (b"content-length", str(self._length).encode()),
            ],
        }

    async def receive(self) -> Message:
        if self._body is None:
            await self._left.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def leave(self, running: "asyncio.Future[None]") -> None:
        """As a client does, which vLLM's routes look for: their work may be in another task."""
        self._left.set()
        await asyncio.wait([running], timeout=_LEAVE_SECONDS)
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # its caller has left

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.body = b""  # a second start: what had begun has ended in an error
            self.answer.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in message["headers"]
            }
            if self._on_head is not None:
                await self._on_head(self.answer)
        elif message["type"] == "http.response.body":
            await self._take(message.get("body", b""))

    async def _take(self, body: bytes) -> None:
        kind = self.answer.headers.get("content-type", "")
        if self._on_data is None or not kind.startswith("text/event-stream"):
            self.answer.body += body
            return
        *events, self._rest = (self._rest + body).split(_END)
        for event in events:
            data = event.removeprefix(_DATA)
            if data not in (event, _DONE):  # nor a comment that keeps the connection alive
                await self._on_data(data)
