"""Load channel, the server's end: asks every worker to load adapters.

A Unix socket in a private folder; each worker connects once. The protocol is described in
`engine.worker.load_channel`. A worker does not connect again: a channel that lost one can load
nothing any more, and its engine has to be replaced.
"""

import asyncio
import itertools
import json
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from engine.artifact_files import load_error
from engine.errors import EngineUnavailable
from engine.ports import Loaded
from engine.types import AdapterVersion, LoadFailure

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 60.0
_MAX_LINE_BYTES = 2**20  # a worker shortens its error texts to far less

Connect = Callable[[str], Awaitable[object]]


class _Worker:
    """One connected rank and its pending loads."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._loads: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def load(self, number: int, version: AdapterVersion) -> dict[str, Any]:
        """The response to this load. `number` is a new one, so that no earlier response matches."""
        if self._writer.is_closing():
            raise EngineUnavailable("a worker has disconnected")
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._loads[number] = reply
        path, name = version.path, version.engine_name
        self._send(do="load", load=number, id=version.id, name=name, path=path)
        try:
            return await reply
        finally:
            self._loads.pop(number, None)

    def discard(self, number: int) -> None:
        self._send(do="discard", load=number)

    def _send(self, **order: Any) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(order).encode() + b"\n")

    async def listen(self, reader: asyncio.StreamReader) -> str:
        """Returns how the connection ended: the worker closed it, or sent what can't be read."""
        try:
            while line := await reader.readline():
                reply = json.loads(line)
                load = self._loads.get(reply["load"])
                if load is not None and not load.done():
                    load.set_result(reply)
        except OSError as error:
            return f"a worker has disconnected: {error}"
        except Exception as error:
            logger.exception("a worker's reply could not be read")
            return f"a worker's reply could not be read: {type(error).__name__}"
        finally:
            self._writer.close()
            for load in self._loads.values():
                if not load.done():
                    load.set_exception(EngineUnavailable("a worker has disconnected"))
        return "a worker has disconnected"


class LoadChannel:
    """Sends each load to all workers in parallel.

    `lost`: why it can load nothing any more; None while it can.
    """

    def __init__(self) -> None:
        self.lost: str | None = None
        self._workers: list[_Worker] = []
        self._numbers = itertools.count(1)
        self._connected = asyncio.Event()
        self._listening: set[asyncio.Task[str]] = set()

    async def load(self, version: AdapterVersion) -> tuple[int, Loaded]:
        """Stage the version; a commit names it by the number.

        Raises AdapterLoadFailed or EngineUnavailable; then no worker keeps anything of it.
        """
        number = next(self._numbers)
        loads = (worker.load(number, version) for worker in self._workers)
        try:
            replies = await asyncio.gather(*loads)
        except BaseException:  # cancelled, or a worker has disconnected
            self.discard(number)
            raise
        for failed in (reply for reply in replies if "error" in reply):
            self.discard(number)
            failure = LoadFailure(failed["failure"])
            raise load_error(version.reference, failed["error"], failure)
        is_certain = all(reply["certain"] for reply in replies)
        return number, Loaded(
            host_bytes=sum(reply["host_bytes"] for reply in replies),
            guaranteed=is_certain,
            fell_back=not is_certain,
        )

    def discard(self, number: int) -> None:
        for worker in self._workers:
            worker.discard(number)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker = _Worker(writer)
        self._workers.append(worker)
        task = asyncio.create_task(worker.listen(reader))
        self._listening.add(task)
        task.add_done_callback(self._on_disconnected)
        self._connected.set()

    def _on_disconnected(self, task: "asyncio.Task[str]") -> None:
        self._listening.discard(task)
        if not task.cancelled() and self.lost is None:
            self.lost = task.result()

    async def wait_for(self, ranks: int) -> None:
        """Raises EngineUnavailable if they don't connect in time."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while len(self._workers) < ranks:
                    self._connected.clear()
                    await self._connected.wait()
        except TimeoutError:
            raise EngineUnavailable("a worker did not connect in time") from None

    async def close(self) -> None:
        for task in list(self._listening):
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)


@asynccontextmanager
async def open_channel(connect: Connect, ranks: int) -> AsyncIterator[LoadChannel]:
    """`connect` passes the socket's path to every rank."""
    channel = LoadChannel()
    # beside vLLM's own sockets, whose paths are longer: where they can be, this one can
    beside = os.environ.get("VLLM_RPC_BASE_PATH")
    with tempfile.TemporaryDirectory(prefix="adaptry-", dir=beside) as folder:
        path = f"{folder}/loads"
        server = await asyncio.start_unix_server(channel._accept, path, limit=_MAX_LINE_BYTES)
        try:
            await connect(path)
            await channel.wait_for(ranks)
            yield channel
        finally:
            server.close()
            await channel.close()
