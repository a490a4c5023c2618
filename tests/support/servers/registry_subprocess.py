"""The registry as a process of its own, which a test may kill."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = "tests.support.servers.registry_app_process"
START_SECONDS = 30


class ServerProcess:
    """Starts and dies as often as is needed, on one database and one store."""

    def __init__(self, folder: Path, database_url: str, port: int, **more: Any) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self.store = folder / "process" / "store"
        sources = folder / "process" / "sources"
        sources.mkdir(parents=True)
        asked = {
            "database": database_url,
            "store": str(self.store),
            "sources": str(sources),
            "port": port,
            **more,
        }
        self._command = [sys.executable, "-m", PROGRAM, json.dumps(asked)]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(*self._command, cwd=ROOT)
        async with httpx.AsyncClient() as client, asyncio.timeout(START_SECONDS):
            while True:
                try:
                    await client.get(f"{self.url}/webhooks")
                    return
                except httpx.TransportError:
                    assert self._process.returncode is None
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._process = None

    def peak_bytes(self) -> int:
        """The most memory that it has held so far."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
