"""HTTP load from one core: keep-alive HTTP/1.1, with as little parsing as possible."""

import asyncio
import time
from collections.abc import Iterable, Iterator


async def requests_per_second(
    port: int, paths: Iterable[str], *, connections: int, seconds: float
) -> float:
    """Latencies of GET requests, all with status 200. Raises ConnectionError for others."""
    endless = iter(paths)
    began = time.perf_counter()
    ends = began + seconds
    counts = await asyncio.gather(*(_ask(port, endless, ends) for _ in range(connections)))
    return sum(counts) / (time.perf_counter() - began)


async def _ask(port: int, paths: Iterator[str], ends: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    while time.perf_counter() < ends:
        writer.write(f"GET {next(paths)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(_length(head))
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"{head.decode()}{body.decode()}")
        answered += 1
    writer.close()
    await writer.wait_closed()
    return answered


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0])
