"""Uploader: a process that uploads many small adapters to a running server.

    python -m benchmarks.ingest.uploader URL FIRST COUNT CLIENTS WIDTH

It prints how many seconds passed until all of them were registered.

It shares the machine's cores with the server, as clients elsewhere would not: so it imports little,
makes all requests before it sends the first, and each client writes its own to one connection and
reads the status.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from benchmarks.ingest.small_adapters import small_adapter, until_registered

_BOUNDARY = "a-boundary-that-no-weights-have"


async def upload(url: str, first: int, count: int, clients: int, width: int) -> float:
    place = urlsplit(url)
    requests = [request(place.netloc, number, width) for number in range(first, first + count)]
    began = time.monotonic()
    left = iter(requests)
    sending = (upload_some(place.hostname or "", place.port or 80, left) for _ in range(clients))
    await asyncio.gather(*sending)
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=None) as http:
        await until_registered(http)
    return time.monotonic() - began


def request(host: str, number: int, width: int) -> bytes:
    """The whole request of one upload, with its head."""
    body = b""
    for name, content in small_adapter(number, width).items():
        part = f'Content-Disposition: form-data; name="files"; filename="{name}"'
        body += f"--{_BOUNDARY}\r\n{part}\r\n\r\n".encode() + content + b"\r\n"
    body += f"--{_BOUNDARY}--\r\n".encode()
    lines = (
        f"POST /api/v1/adapters/small-{number}/versions HTTP/1.1",
        f"Host: {host}",
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


async def upload_some(host: str, port: int, requests: Iterator[bytes]) -> None:
    """Send them one after the other; a refusal for now is waited for."""
    reader, writer = await asyncio.open_connection(host, port)
    for each in requests:
        while True:
            writer.write(each)
            status, headers, body = await read_answer(reader)
            if status != httpx.codes.TOO_MANY_REQUESTS:
                break
            await asyncio.sleep(float(headers.get("retry-after", 1)))
        if status >= httpx.codes.BAD_REQUEST:
            sys.exit(json.dumps(json.loads(body)))
    writer.close()
    await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by their lower names, and body of an answer with a declared length."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers["content-length"]))
    return int(first.split()[1]), headers, body


def main() -> None:
    url, *numbers = sys.argv[1:]
    first, count, clients, width = map(int, numbers)
    print(asyncio.run(upload(url, first, count, clients, width)))


if __name__ == "__main__":
    main()
