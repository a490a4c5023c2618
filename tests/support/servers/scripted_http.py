"""A real HTTP server that answers as it is told, wrongly too."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(ThreadingHTTPServer):
    """Gives the queued answers, one per request, and keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.queue: list[tuple[int, bytes, dict[str, str]]] = []
        self.asked: list[tuple[str, str, object]] = []
        self.keys: list[str | None] = []
        self.headers: list[Mapping[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def will_say(self, status: int, content: object, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.queue.append((status, body, headers))


class Handler(BaseHTTPRequestHandler):
    server: Answers

    def answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, body))
        self.server.keys.append(self.headers.get("authorization"))
        self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
        status, content, headers = self.server.queue.pop(0)
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  # http.server's names

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@contextmanager
def answering() -> Iterator[Answers]:
    with Answers() as answers:
        thread = threading.Thread(target=answers.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield answers
        finally:  # a thread that lives on would keep the whole run from ending
            answers.shutdown()
            thread.join()
