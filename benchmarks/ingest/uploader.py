"""Uploader: a process that uploads many small adapters to a running server.

    python -m benchmarks.ingest.uploader URL FIRST COUNT CLIENTS WIDTH

It prints how many seconds passed until all of them were registered.
"""

import asyncio
import sys
import time

import httpx

from benchmarks.ingest.uploads import until_registered, upload_some


async def upload(url: str, first: int, count: int, clients: int, width: int) -> float:
    began = time.monotonic()
    numbers = iter(range(first, first + count))
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=None) as http:
        await asyncio.gather(*(upload_some(http, numbers, width) for _ in range(clients)))
        await until_registered(http)
    return time.monotonic() - began


def main() -> None:
    url, *numbers = sys.argv[1:]
    first, count, clients, width = map(int, numbers)
    print(asyncio.run(upload(url, first, count, clients, width)))


if __name__ == "__main__":
    main()
