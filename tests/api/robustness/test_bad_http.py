"""Bad HTTP over real sockets: refused early, with a reason, and the connection is released."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware import Middleware
from starlette.types import Scope

from engine.http.uvicorn_protocol import create_http_protocol
from engine.settings import EngineSettings
from registry.http.body_limit import BodyLimit, BodyLimitMiddleware
from registry.http.problems import ProblemRoute

MAX_BYTES = 10_000
FOREVER = b"x" * 1000
MUCH_BYTES = 20 * 2**20  # more than the buffers between two sockets hold
SETTINGS = EngineSettings(
    max_header_bytes=4000, max_headers=20, header_timeout_seconds=0.5, stalled_reader_seconds=0.3
)


@dataclass
class Listening:
    """`read_bytes`: of bodies, by the application."""

    port: int
    read_bytes: list[int] = field(default_factory=list)

    async def ask(self, *pieces: bytes) -> tuple[bytes, Any]:
        """The answer's first line and its body; the server has to close the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert b"connection: close" in head.lower(), head
        return head.partition(b"\r\n")[0], json.loads(body)


def application(listening: Listening) -> FastAPI:
    def limit_of(scope: Scope) -> BodyLimit:
        return BodyLimit(MAX_BYTES, streamed=scope["path"].endswith("/streamed"))

    guard = Middleware(BodyLimitMiddleware, limit_of=limit_of, timeout_seconds=0.5)
    app = FastAPI(middleware=[guard])
    app.router.route_class = ProblemRoute

    @app.post("/api/whole")
    async def whole(request: Request) -> dict[str, int]:
        listening.read_bytes.append(len(await request.body()))
        return {"read": listening.read_bytes[-1]}

    @app.post("/api/streamed")
    async def streamed(request: Request) -> dict[str, int]:
        listening.read_bytes.append(0)
        async for chunk in request.stream():
            listening.read_bytes[-1] += len(chunk)
        return {"read": listening.read_bytes[-1]}

    @app.post("/api/unread")
    async def unread() -> dict[str, str]:
        return {}

    @app.get("/api/much")
    async def much() -> Response:
        return Response(b"x" * MUCH_BYTES)

    @app.get("/api/nothing")
    async def nothing() -> dict[str, str]:
        return {}

    return app


@asynccontextmanager
async def served(settings: EngineSettings = SETTINGS) -> AsyncIterator[Listening]:
    listening = Listening(0)
    app = application(listening)
    config = uvicorn.Config(app, port=0, http=create_http_protocol(settings), log_level="error")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    listening.port = server.servers[0].sockets[0].getsockname()[1]
    yield listening
    async with asyncio.timeout(20):
        while server.server_state.connections:  # each is given back
            await asyncio.sleep(0.02)
    server.should_exit = True
    await task


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    async with served() as started:
        yield started


def post(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


CHUNKED = "Transfer-Encoding: chunked"
CHUNK = b"%x\r\n%s\r\n" % (len(FOREVER), FOREVER)


async def until_refused(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Send the piece again and again, until the connection is no more."""
    for _ in range(1000):
        writer.write(piece)
        try:
            await writer.drain()
        except ConnectionError:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it was read for ever")


@pytest.mark.parametrize("path", ["/api/whole", "/api/streamed"])
async def test_a_body_that_says_it_is_too_large_is_not_read(
    listening: Listening, path: str
) -> None:
    line, problem = await listening.ask(post(path, f"Content-Length: {MAX_BYTES + 1}"))
    assert line == b"HTTP/1.1 413 Request Entity Too Large"
    assert (problem["code"], problem["instance"]) == ("body_too_large", path)
    assert sum(listening.read_bytes) == 0


@pytest.mark.parametrize("path", ["/api/whole", "/api/streamed"])
async def test_an_endless_body_is_refused_and_read_no_further(
    listening: Listening, path: str
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    writer.write(post(path, CHUNKED))
    await until_refused(writer, CHUNK)
    assert sum(listening.read_bytes) <= MAX_BYTES
    writer.close()


async def test_who_sends_too_much_can_read_why(listening: Listening) -> None:
    line, problem = await listening.ask(post("/api/whole", CHUNKED), CHUNK * 1000)
    assert (line[9:12], problem["code"]) == (b"413", "body_too_large")


@pytest.mark.parametrize("path", ["/api/whole", "/api/streamed"])
@pytest.mark.parametrize("sent", [b"", b"x", b"x" * 100])
async def test_a_body_that_does_not_come_is_given_up(
    listening: Listening, path: str, sent: bytes
) -> None:
    line, problem = await listening.ask(post(path, "Content-Length: 5000"), sent)
    assert (line[9:12], problem["code"]) == (b"408", "body_timeout")


async def test_a_body_that_comes_byte_by_byte_is_given_up(listening: Listening) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    writer.write(post("/api/whole", "Content-Length: 5000"))

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    assert b"408" in await reader.readline()
    dripping.cancel()
    writer.close()
    await asyncio.gather(dripping, return_exceptions=True)


async def test_a_connection_is_not_kept_for_the_rest_of_an_unread_body(
    listening: Listening,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    writer.write(post("/api/unread", "Content-Length: 5000", "Content-Type: multipart/x") + b"x")
    answer = await reader.read()
    assert b"408" in answer.partition(b"\r\n")[0]
    writer.close()


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
async def test_json_nested_too_deeply_is_refused(listening: Listening, opening: bytes) -> None:
    content = opening * 1500
    head = post("/api/whole", f"Content-Length: {len(content)}", "Connection: close")
    line, problem = await listening.ask(head + content)
    assert (line[9:12], problem["code"]) == (b"400", "body_too_deep")
    assert listening.read_bytes == []


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/nothing HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 5000 + b"\r\n\r\n",
        b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 30 + b"\r\n",
        b"GET /api/nothing?" + b"y" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/nothing?" + b"y" * 5000 + b" HTTP/1.0\r\n\r\n",
        post("/api/whole", CHUNKED) + b"0\r\n" + b"X: y\r\n" * 30 + b"\r\n",
    ],
    ids=["a long header", "many headers", "a long path", "a long path alone", "many trailers"],
)
async def test_headers_over_the_limits_are_a_431(listening: Listening, head: bytes) -> None:
    line, answer = await listening.ask(head)
    assert line == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert answer["error"]["code"] == "headers_too_large"


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /",
        b"GET /api/nothing HTTP/1.1\r\nX: ",
        b"GET /api/nothing HTTP/1.1\r\n",
        b"\r\n",
        post("/api/whole", CHUNKED) + b"0\r\nX: ",
        post("/api/whole", CHUNKED) + b"5;",
    ],
    ids=["path", "header", "headers", "nothing", "trailer", "chunk extension"],
)
async def test_an_endless_head_is_not_kept(listening: Listening, beginning: bytes) -> None:
    """httptools would keep all of it."""
    _, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    writer.write(beginning)
    more = b"X: y\r\n" * 500 if beginning.endswith(b"HTTP/1.1\r\n") else b"y" * 3000
    await until_refused(writer, b"\r\n" * 1500 if beginning == b"\r\n" else more)
    writer.close()


@pytest.mark.parametrize(
    ("sent", "line"),
    [(b"", b""), (b"GET / HTTP/1.1\r\nHost", b"HTTP/1.1 408 Request Timeout")],
)
async def test_a_head_that_does_not_come_is_given_up(
    listening: Listening, sent: bytes, line: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    writer.write(sent)
    assert (await reader.read()).partition(b"\r\n")[0] == line
    writer.close()


async def test_the_next_request_of_a_connection_has_its_own_time(listening: Listening) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    request = b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(4):
        writer.write(request[:10])
        await asyncio.sleep(0.2)
        writer.write(request[10:])
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        await reader.readuntil(b"{}")
    writer.write(request[:10])
    assert b"408" in await reader.readline()
    writer.close()


MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"nonsense\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET \xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
    post("/api/whole", "Content-Length: -1"),
    post("/api/whole", "Content-Length: 1", "Content-Length: 2"),
    post("/api/whole", "Content-Length: 1" + "0" * 400),
    post("/api/whole", "Content-Length: 5", CHUNKED) + b"0\r\n\r\n",
    post("/api/whole", CHUNKED) + b"zz\r\n",
    post("/api/whole", CHUNKED) + b"f" * 40 + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("request_", MALFORMED)
async def test_what_is_no_http_is_a_400_without_a_traceback(
    listening: Listening, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        line, answer = await listening.ask(request_)
    assert line == b"HTTP/1.1 400 Bad Request"
    assert answer["error"]["code"] == "invalid_http"
    assert caplog.records == []


async def test_good_requests_follow_each_other_on_one_connection(listening: Listening) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    writer.write((post("/api/whole", "Content-Length: 5") + b"12345") * 3)
    for _ in range(3):
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        await reader.readuntil(b'{"read":5}')
    writer.write(post("/api/streamed", CHUNKED) + CHUNK * 9 + b"0\r\n\r\n")
    await reader.readuntil(b'{"read":9000}')
    writer.close()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_a_reader_that_stands_still_is_disconnected(
    listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port, limit=1024)
    writer.write(get("/api/much"))
    with caplog.at_level(logging.WARNING, "engine.http.uvicorn_protocol"):
        async with asyncio.timeout(20):
            while "has read nothing for 0.3 s" not in caplog.text:
                await asyncio.sleep(0.05)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await reader.readexactly(MUCH_BYTES)
    writer.close()


async def test_a_slow_reader_that_goes_on_reading_gets_everything(listening: Listening) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port, limit=2**20)
    writer.write(get("/api/much"))
    read_bytes = 0
    while read_bytes < MUCH_BYTES:
        piece = await reader.read(2**20)
        assert piece, "it was cut off"
        read_bytes += len(piece)
        await asyncio.sleep(0.05)
    writer.close()
