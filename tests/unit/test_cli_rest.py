"""The REST client against a real HTTP server that answers as it is told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adaptry.errors import NoServer, Refused, UsageError
from adaptry.rest import RestClient


class Answers(ThreadingHTTPServer):
    """Gives the queued answers, one per request, and keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.queue: list[tuple[int, bytes]] = []
        self.asked: list[tuple[str, str, object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def will_say(self, status: int, content: object) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.queue.append((status, body))


class Handler(BaseHTTPRequestHandler):
    server: Answers

    def answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, body))
        status, content = self.server.queue.pop(0)
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  # http.server's names

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[Answers]:
    with Answers() as answers:
        thread = threading.Thread(target=answers.serve_forever, args=(0.01,))
        thread.start()
        yield answers
        answers.shutdown()
        thread.join()


@pytest.fixture
def client(server: Answers) -> Iterator[RestClient]:
    with RestClient(server.url) as rest:
        yield rest


def test_registering_tells_a_new_version_from_a_known_one(
    server: Answers, client: RestClient
) -> None:
    server.will_say(201, {"reference": "upper:1"})
    server.will_say(200, {"reference": "upper:1"})
    assert client.register("upper", "/a", "loud") == (201, {"reference": "upper:1"})
    assert client.register("upper", "/a", None) == (200, {"reference": "upper:1"})
    path = "/api/v1/adapters/upper/versions"
    assert server.asked == [
        ("POST", path, {"source": "/a", "description": "loud"}),
        ("POST", path, {"source": "/a"}),
    ]


def test_a_list_is_read_to_its_last_page(server: Answers, client: RestClient) -> None:
    server.will_say(200, {"items": [{"name": "a"}], "next_page_token": "x y"})
    server.will_say(200, {"items": [{"name": "b"}], "next_page_token": None})
    assert [adapter["name"] for adapter in client.adapters()] == ["a", "b"]
    assert [path for _, path, _ in server.asked] == [
        "/api/v1/adapters",
        "/api/v1/adapters?page_token=x+y",
    ]


def test_a_reference_keeps_its_signs_in_a_path(server: Answers, client: RestClient) -> None:
    server.will_say(200, {})
    server.will_say(200, {})
    client.unpin("upper@prod")
    client.unpin("upper:3/../x")
    assert server.asked[0][1] == "/api/v1/cache/pins/upper@prod"
    assert server.asked[1][1] == "/api/v1/cache/pins/upper:3%2F..%2Fx"


def test_problem_details_become_one_line_with_their_code(
    server: Answers, client: RestClient
) -> None:
    problem = {"title": "Alias moved", "detail": "default is at 3", "code": "alias_moved"}
    server.will_say(409, problem)
    with pytest.raises(Refused, match=r"^default is at 3 \[alias_moved\]$") as refused:
        client.move_alias("upper", "default", 2, 1, None)
    assert refused.value.status == 409


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
def test_an_error_of_somebody_else_has_its_status(
    server: Answers, client: RestClient, body: bytes
) -> None:
    server.will_say(502, body)
    with pytest.raises(Refused, match="HTTP 502"):
        client.cache()


def test_a_server_that_speaks_something_else_is_recognised(
    server: Answers, client: RestClient
) -> None:
    server.will_say(200, b"<html>")
    with pytest.raises(Refused, match="does not speak Adaptry's API"):
        client.cache()


def test_readiness_is_the_status_and_nothing_else(server: Answers, client: RestClient) -> None:
    server.will_say(503, {"status": "not_ready"})
    server.will_say(200, {"status": "ready"})
    assert [client.is_ready(), client.is_ready()] == [False, True]


def test_no_server_is_one_line(server: Answers) -> None:
    with RestClient("http://127.0.0.1:1") as nobody:
        assert not nobody.is_ready()
        with pytest.raises(NoServer, match=r"no answer from http://127\.0\.0\.1:1: .*refused"):
            nobody.cache()


def test_a_proxy_of_the_environment_is_not_asked_about_this_machine(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.will_say(200, {"slots": 2})
    with RestClient(server.url) as client:
        assert client.cache() == {"slots": 2}


def test_a_url_without_a_scheme_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="http://HOST:PORT"):
        RestClient("localhost:8000")
