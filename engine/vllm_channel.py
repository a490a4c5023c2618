"""The server's end of the line on which every worker is asked to load adapters.

A Unix socket in a private folder; each worker connects once. `worker_channel` says what is spoken.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from engine.errors import AdapterLoadFailed, EngineUnavailable
from engine.types import AdapterVersion, VersionId

CONNECT_SECONDS = 60.0

Connect = Callable[[str], Awaitable[object]]


class _Worker:
    """One connected rank and the loads that it has not answered yet."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._loads: dict[VersionId, asyncio.Future[dict[str, Any]]] = {}

    def ask(self, version: AdapterVersion) -> asyncio.Future[dict[str, Any]]:
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if self._writer.is_closing():
            answer.set_exception(EngineUnavailable("a worker has gone"))
            return answer
        self._loads[version.id] = answer
        self._send(do="load", id=version.id, name=version.engine_name, path=version.path)
        return answer

    def drop(self, version: VersionId) -> None:
        self._send(do="drop", id=version)

    def _send(self, **order: Any) -> None:
        self._writer.write(json.dumps(order).encode() + b"\n")

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Until the worker has gone."""
        try:
            while line := await reader.readline():
                answer = json.loads(line)
                load = self._loads.pop(VersionId(answer["id"]), None)
                if load is not None and not load.done():
                    load.set_result(answer)
        finally:
            self._writer.close()
            for load in self._loads.values():
                if not load.done():
                    load.set_exception(EngineUnavailable("a worker has gone"))


class LoadChannel:
    """Asks all workers at once."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._connected = asyncio.Event()
        self._listening: set[asyncio.Task[None]] = set()

    async def load(self, version: AdapterVersion) -> bool:
        """True if every worker knows that its moves can't fail.

        Raises AdapterLoadFailed, and then no worker keeps anything, or EngineUnavailable.
        """
        answers = await asyncio.gather(*(worker.ask(version) for worker in self._workers))
        errors = [answer["error"] for answer in answers if "error" in answer]
        if errors:
            for worker in self._workers:
                worker.drop(version.id)
            raise AdapterLoadFailed(version.reference, errors[0])
        return all(answer["certain"] for answer in answers)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker = _Worker(writer)
        self._workers.append(worker)
        task = asyncio.create_task(worker.listen(reader))
        self._listening.add(task)
        task.add_done_callback(self._listening.discard)
        self._connected.set()

    async def wait_for(self, ranks: int) -> None:
        """Raises EngineUnavailable if they don't come."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while len(self._workers) < ranks:
                    self._connected.clear()
                    await self._connected.wait()
        except TimeoutError:
            raise EngineUnavailable("a worker can't be reached; all have to be here") from None

    async def close(self) -> None:
        for task in list(self._listening):
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)


@asynccontextmanager
async def open_channel(connect: Connect, ranks: int) -> AsyncIterator[LoadChannel]:
    """`connect` has to tell every rank the path on which it is awaited."""
    channel = LoadChannel()
    with tempfile.TemporaryDirectory(prefix="adaptry-") as folder:
        path = f"{folder}/loads"
        server = await asyncio.start_unix_server(channel._accept, path)
        try:
            await connect(path)
            await channel.wait_for(ranks)
            yield channel
        finally:
            server.close()
            await channel.close()
