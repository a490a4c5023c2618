"""Streams: clients of one application in this process that ask all the time."""

import asyncio
import time
from collections.abc import Iterator

from benchmarks.overhead.applications import Application
from benchmarks.overhead.connection import Connection, uvicorn_config

ADAPTERS = 4


class Streams:
    """Clients of one application that ask all the time."""

    def __init__(self, application: Application, streams: int) -> None:
        self.name = application.name
        config = uvicorn_config(application)
        self._connections = [Connection(application, config) for _ in range(streams)]

    async def ask(self, requests: int, tokens: int) -> float:
        """CPU seconds of the process for each request."""
        left = iter(range(requests))
        began = time.process_time()
        await asyncio.gather(*(self._ask_each(each, left, tokens) for each in self._connections))
        return (time.process_time() - began) / requests

    async def _ask_each(self, connection: Connection, left: Iterator[int], tokens: int) -> None:
        for number in left:  # shared by all
            await connection.stream(f"a{number % ADAPTERS}", tokens)
