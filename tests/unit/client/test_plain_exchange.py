"""The client of commands, over `http.client`: connections, proxies, certificates, failures."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi
import pytest

from adaptry.client import NoAnswer
from adaptry.client.client import CommandClient
from adaptry.client.transport.http import Options
from adaptry.client.transport.plain_exchange import PlainExchange
from adaptry.client.transport.requests import QueryValue, Request
from tests.support.certificate import write_certificate
from tests.support.servers.web import Handler, WebServer, serving, web_server

READY = b'{"status": "ready"}'


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


def exchange(url: str, **options: float) -> PlainExchange:
    return PlainExchange(Options(url, **options))  # type: ignore[arg-type]


def ports_of(server: WebServer) -> list[int]:
    """Of the clients' ends, in the order of the requests."""
    ports: list[int] = []

    def answer(handler: Handler) -> None:
        ports.append(handler.client_address[1])
        handler.send(200, READY, {})

    server.answers["/readyz"] = answer
    return ports


def test_a_connection_is_used_again_until_the_server_ends_it(server: WebServer) -> None:
    ports = ports_of(server)
    server.file("/bye", READY, Connection="close")
    asking = exchange(server.url)
    for path in ("/readyz", "/readyz", "/bye", "/readyz"):
        assert asking.send(Request("GET", path)).content == READY
    asking.close()
    assert ports[0] == ports[1] != ports[2]


def test_a_connection_that_was_closed_while_it_was_idle_is_not_used(server: WebServer) -> None:
    accepted: list[socket.socket] = []

    def answer(handler: Handler) -> None:
        accepted.append(handler.connection)
        handler.send(200, READY, {})

    server.answers["/readyz"] = answer
    asking = exchange(server.url)
    for _ in range(2):
        assert asking.send(Request("GET", "/readyz")).status_code == 200
        accepted[-1].shutdown(socket.SHUT_RDWR)
    asking.close()


def test_a_query_is_written_as_httpx_writes_it(server: WebServer) -> None:
    server.file("/x", b"{}")
    query: dict[str, QueryValue] = {"text": "a b/ü&=", "tags": ["p", "q"], "deep": True, "n": 3}
    asking = exchange(f"{server.url}/")
    asking.send(Request("GET", "/x", query=query))
    asking._httpx.send(Request("GET", "/x", query=query))
    asking.close()
    plain, other = (path.replace("+", "%20").replace("%2F", "/") for _, path in server.asked)
    assert plain == other == "/x?text=a%20b/%C3%BC%26%3D&tags=p&tags=q&deep=true&n=3"


@contextmanager
def saying(words: bytes) -> Iterator[str]:
    """A server that says this to whatever it is asked, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(words)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"", "Server disconnected without sending a response"),
        (b"-ERR unknown command\r\n", "what it says is not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "broke off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{", "broke off"),
    ],
)
def test_what_is_no_whole_answer_is_no_answer(words: bytes, reason: str) -> None:
    with saying(words) as url, pytest.raises(NoAnswer, match=reason):
        exchange(url).send(Request("GET", "/"))
    with (
        saying(words) as url,
        pytest.raises(NoAnswer, match=reason),
        exchange(url).open(Request("GET", "/"), None, {}) as answer,
    ):
        list(answer.iter_bytes())


def test_https_where_there_is_http_is_told(server: WebServer) -> None:
    url = server.url.replace("http:", "https:")
    with pytest.raises(NoAnswer, match="no TLS is spoken there: write http://"):
        exchange(url).send(Request("GET", "/"))


def test_an_answer_that_takes_too_long_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NoAnswer, match="timed out"):
            exchange(url, timeout_seconds=0.05).send(Request("GET", "/"))


def test_an_error_of_who_reads_a_stream_is_its_own(server: WebServer) -> None:
    server.file("/x", b"some")
    reading = exchange(server.url).open(Request("GET", "/x"), None, {})
    with pytest.raises(OSError, match="my disk is full"), reading:  # not: no answer
        raise OSError("my disk is full")


def test_a_proxy_of_the_environment_is_asked(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.file("/readyz", READY)
    monkeypatch.setenv("http_proxy", server.url)
    with CommandClient("http://adaptry.example") as client:
        assert client.is_ready()
    assert server.asked == [("GET", "http://adaptry.example/readyz")]


def test_only_a_known_authority_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = write_certificate(tmp_path, "localhost")
    secured = WebServer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secured.socket = context.wrap_socket(secured.socket, server_side=True)
    url = f"https://localhost:{secured.server_port}"
    with serving(secured):
        secured.file("/readyz", READY)
        asking = exchange(url)
        with pytest.raises(NoAnswer, match="CERTIFICATE_VERIFY_FAILED"):
            asking.send(Request("GET", "/readyz"))
        monkeypatch.setattr(certifi, "where", lambda: str(certificate))
        assert asking.send(Request("GET", "/readyz")).content == READY
        asking.close()
