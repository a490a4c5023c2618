"""Connection in this process: uvicorn's HTTP protocol over a transport without a socket."""

import asyncio
import json
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from benchmarks.overhead.applications import Application

_LAST_CHUNK = b"0\r\n\r\n"
_EVENT = b"data: "


class _Transport(asyncio.Transport):
    """Counts what is written, and drops it."""

    def __init__(self) -> None:
        super().__init__(
            {"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 40000), "socket": None}
        )
        self.head = b""
        self.events = 0
        self.ended = asyncio.Event()

    def begin(self) -> None:
        self.head = b""
        self.events = 0
        self.ended.clear()

    def write(self, data: Any) -> None:
        if not self.head:
            self.head = bytes(data)
        self.events += bytes(data).count(_EVENT)
        if data.endswith(_LAST_CHUNK):
            self.ended.set()

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        raise RuntimeError(f"the server closed the connection: {self.head!r}")

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


class Connection:
    """Sends one request after the other to an application, and reads each answer to its end."""

    def __init__(self, application: Application, config: uvicorn.Config) -> None:
        self._headers = "".join(f"{k}: {v}\r\n" for k, v in application.headers.items())
        self._transport = _Transport()
        protocol_class: Any = config.http_protocol_class
        self._protocol = protocol_class(config=config, server_state=ServerState(), app_state={})
        self._protocol.connection_made(self._transport)

    async def stream(self, model: str, tokens: int) -> None:
        """One streamed completion. Raises RuntimeError unless every token came by itself."""
        body = {"model": model, "prompt": "x" * 64, "max_tokens": tokens}
        if (events := await self.ask("/v1/completions", body)) != tokens + 1:
            raise RuntimeError(f"{events} events for {tokens}")

    async def ask(self, path: str, body: dict[str, Any]) -> int:
        """The number of events in the streamed answer. Raises RuntimeError if it is refused."""
        content = json.dumps({**body, "stream": True}).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:8000\r\naccept: */*\r\n"
            "user-agent: benchmark\r\ncontent-type: application/json\r\n"
            f"{self._headers}content-length: {len(content)}\r\n\r\n"
        ).encode()
        self._transport.begin()
        self._protocol.data_received(head + content)
        await self._transport.ended.wait()
        status = self._transport.head.split(b"\r\n", 1)[0]
        if b" 200 " not in status:
            raise RuntimeError(f"{path}: {status!r}")
        return self._transport.events


def uvicorn_config(application: Application) -> uvicorn.Config:
    """As vLLM's `serve_http` makes it; its access log is off, as it writes to a terminal."""
    config = uvicorn.Config(
        application.app,
        http=application.http,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=3600,
    )
    config.load()
    return config
