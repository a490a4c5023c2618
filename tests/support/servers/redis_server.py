"""A real Redis beside a test, on a free port of loopback. It can be stopped, and started again."""

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

_START_SECONDS = 20.0


class RedisServer:
    """Without persistence: it forgets all with its end."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip("needs redis-server")
        self._program = found
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir"]
        self._process = await asyncio.create_subprocess_exec(
            self._program, *options, str(self._folder), stdout=subprocess.DEVNULL
        )
        async with asyncio.timeout(_START_SECONDS):
            while not await self._answers():
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
        return answer.startswith(b"+PONG")
