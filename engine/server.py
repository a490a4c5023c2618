"""HTTP server: vLLM's own, until a signal stops it; then it shuts down in order."""

import asyncio
import os
import signal
import socket
from argparse import Namespace
from contextlib import suppress
from typing import Any

from engine.app import Server
from engine.errors import EngineUnavailable
from engine.vllm import compat as vllm_compat
from engine.vllm.arguments import http_options

# The engine has ended by then: only a client that does not read keeps a response open.
_GRACEFUL_SECONDS = 5


class ServedEngine:
    """The engine that vLLM's HTTP server stops at SIGTERM: the current one, not the first one.

    A second signal kills it.
    """

    errored = False  # an engine that died is replaced, and is no reason to stop
    is_running = True

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._last = server.engine
        self.vllm_config = server.engine.vllm_config

    def __getattr__(self, name: str) -> Any:
        """For vLLM's routes. Between two engines it is the dead one, which reports that."""
        with suppress(EngineUnavailable):
            self._last = self._server.engine
        return getattr(self._last, name)

    def shutdown(self, timeout: float | None = None) -> None:
        """vLLM calls it in a separate thread."""
        self._loop.call_soon_threadsafe(self._kill_on_second_signal)
        self._server.supervisor.shut_down(timeout)

    def _kill_on_second_signal(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._server.supervisor.kill)


async def serve_forever(server: Server, arguments: Namespace, listening: socket.socket) -> None:
    """Serve until SIGINT, SIGTERM or a failure, with vLLM's own HTTP server."""
    os.environ["VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"] = "1"
    server.app.state.engine_client = ServedEngine(server)
    shutdown = await vllm_compat.serve_http()(
        server.app,
        sock=listening,
        http=server.http,
        **http_options(arguments),
        proxy_headers=False,  # by default it would believe any process on this machine
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
    )
    await shutdown
