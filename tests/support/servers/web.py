"""A web server that does as it is told, on a loopback address."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Answer = Callable[["Handler"], None]


class WebServer(ThreadingHTTPServer):
    """Answers each path as `answers` says, anything else with 404; keeps what was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.host = host
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may leave in the middle."""

    def file(self, path: str, content: bytes, **headers: str) -> None:
        self.answers[path] = lambda handler: handler.send(200, content, headers)

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        self.answers[path] = lambda handler: handler.send(status, b"", {"Location": location})

    def fail(self, path: str, status: int) -> None:
        self.answers[path] = lambda handler: handler.send(status, b"no", {})


class Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.server.asked.append((self.command, self.path))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        path = urlsplit(self.path).path
        answer = self.server.answers.get(path)
        if answer is None:
            self.send(404, b"none", {})
        else:
            answer(self)

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = answer  # noqa: N815  # http.server's names

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@contextmanager
def serving(server: WebServer) -> Iterator[WebServer]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def web_server(host: str = "127.0.0.1") -> Iterator[WebServer]:
    with serving(WebServer(host)) as server:
        yield server
