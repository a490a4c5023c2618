"""The registry as a process of its own, which a test may kill."""

import asyncio
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx

from tests.support.servers import registry_app_process
from tests.support.servers.forks import forked_process

START_SECONDS = 30


class ServerProcess:
    """Starts and dies as often as is needed, on one database and one store."""

    def __init__(self, folder: Path, database_url: str, port: int, **more: Any) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self.store = folder / "process" / "store"
        sources = folder / "process" / "sources"
        sources.mkdir(parents=True)
        self.log = folder / "process" / "log"
        self._asked = {
            "database": database_url,
            "store": str(self.store),
            "sources": str(sources),
            "port": port,
            **more,
        }
        self._process: ForkServerProcess | None = None

    async def start(self) -> None:
        arguments = (self._asked, self.log)
        self._process = forked_process(registry_app_process.run, arguments, daemon=True)
        self._process.start()
        async with httpx.AsyncClient() as client, asyncio.timeout(START_SECONDS):
            while True:
                try:
                    await client.get(f"{self.url}/webhooks")
                    return
                except httpx.TransportError:
                    assert self._process.is_alive(), self.log.read_text()
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.join)
            self._process = None

    def peak_bytes(self) -> int:
        """The most memory that it has held so far."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
