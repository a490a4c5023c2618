"""Registry server in its own process, on its own core."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

SERVER_CORE, CLIENT_CORE = 0, 1


@asynccontextmanager
async def started(url: str, folder: Path) -> AsyncIterator[tuple[int, float]]:
    """The port, and the seconds from the start of the process to its first response."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CLIENT_CORE} & all_cores or all_cores)
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.registry.server", url, str(folder), str(SERVER_CORE)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        await asyncio.to_thread(_first_answer, port)
        yield port, time.perf_counter() - began
    finally:
        process.terminate()
        await process.wait()
        os.sched_setaffinity(0, all_cores)


def _first_answer(port: int) -> None:
    """Waits in the listening socket's queue until the application takes it."""
    httpx.get(f"http://127.0.0.1:{port}/api/v1/adapters?limit=1", timeout=60).raise_for_status()
