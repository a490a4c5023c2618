"""What clients may send by the standard: upgrades to ignore, HTTP/1.0, requests ahead."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from engine.http.uvicorn_protocol import LINGER_SECONDS, create_http_protocol
from engine.settings import EngineSettings

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
"""As the client of Java's standard library asks with the first request of a connection."""
ASK = b"POST /%b HTTP/1.1\r\nHost: x\r\n%b"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body in two parts, in `/slow` after longer than an unread body may take."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(LINGER_SECONDS + 0.5)
    if scope["path"] == "/soon":
        await asyncio.sleep(0.3)
    length = [(b"content-length", b"%d" % (len(body) + 1))] if scope["path"] == "/known" else []
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"<" + body[:2], "more_body": True})
    await send({"type": "http.response.body", "body": body[2:]})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    http = create_http_protocol(EngineSettings())
    server = uvicorn.Server(
        uvicorn.Config(application, port=0, http=http, log_level="error", lifespan="off")
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def ask(port: int, *pieces: bytes) -> tuple[bytes, bytes]:
    """Heads and bodies of all that is answered until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.1)
    async with asyncio.timeout(30):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


LAST = ASK % (b"known", b"Connection: close\r\nContent-Length: 4\r\n\r\nlast")
CHUNKED = H2C + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (ASK % (b"known", H2C + b"Content-Length: 5\r\n\r\nhello") + LAST,),
        (ASK % (b"known", H2C + b"Content-Length: 5\r\n\r\n"), b"he", b"llo" + LAST),
        ((ASK % (b"known", H2C))[:-9], H2C[-9:] + b"Content-Length: 5\r\n\r\nhe", b"llo" + LAST),
        (ASK % (b"known", CHUNKED) + b"2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n" + LAST),
        ((ASK % (b"known", H2C + b"Content-Length: 5\r\n\r\nhello")) * 2 + LAST,),
    ],
    ids=["at once", "in pieces", "a head in pieces", "chunked", "pipelined"],
)
async def test_an_upgrade_that_is_not_done_is_ignored(port: int, pieces: tuple[bytes, ...]) -> None:
    _, answered = await ask(port, *pieces)
    assert answered.count(b"<hello") == b"".join(pieces).count(b"h2c")
    assert answered.endswith(b"<last")


async def test_the_body_of_an_ignored_upgrade_is_no_request(port: int) -> None:
    smuggled = b"GET /known HTTP/1.1\r\nHost: x\r\n\r\n"
    ask_it = ASK % (b"known", H2C + b"Content-Length: %d\r\n\r\n" % len(smuggled))
    head, answered = await ask(port, ask_it, smuggled + LAST)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert (answered.count(b"HTTP/1.1 200 "), answered[:4]) == (1, b"<GET")


WEB_SOCKET = (
    b"Host: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.mark.parametrize(
    "handshake",
    [
        b"POST / HTTP/1.1\r\n" + WEB_SOCKET + b"Content-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\n" + WEB_SOCKET + b"Content-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\n" + WEB_SOCKET + b"Cookie: " + b"c" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + WEB_SOCKET.replace(b"-Key", b"-Lock") + b"\r\n",
    ],
    ids=["no GET", "a body", "a long header", "no key"],
)
async def test_a_handshake_that_can_not_be_read_is_answered(port: int, handshake: bytes) -> None:
    """Nobody waited for it any more, and its connection stayed open for ever."""
    head, body = await ask(port, handshake)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"WebSocket" in body
    assert b"HTTP/1.1" not in body, "once"


@pytest.mark.parametrize("path", [b"known", b"unknown"])
async def test_http_1_0_gets_a_body_without_chunks(port: int, path: bytes) -> None:
    asked = b"POST /%b HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello" % path
    head, body = await ask(port, asked)
    assert body == b"<hello"
    assert b"connection: close" in head
    assert (b"content-length: 6" in head) == (path == b"known")
    assert b"transfer-encoding" not in head


async def test_a_request_sent_ahead_has_its_own_time_for_its_body(port: int) -> None:
    """That of the answer before it is no time of its own."""
    first = ASK % (b"soon", b"Content-Length: 0\r\n\r\n")
    second = ASK % (b"slow", b"Connection: close\r\nContent-Length: 10\r\n\r\n12345")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first + second)
    await reader.readuntil(b"0\r\n\r\n")
    writer.write(b"67890")
    async with asyncio.timeout(30):
        answered = await reader.read()
    writer.close()
    assert b"34567890\r\n0\r\n\r\n" in answered
