"""Buffered answer: read from a stock server as it generates, however slowly the client reads it.

The adapter's lease ends when the server's answer has been read to its end. A client that stands
still keeps it only while the buffer is full, and no longer than it may stand still.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

MOST_BUFFERED_BYTES = 2**20


class ReaderStalled(Exception):
    """The client has taken nothing of a full buffer for too long."""


@dataclass(frozen=True, slots=True)
class AnswerHead:
    status: int
    headers: Sequence[tuple[bytes, bytes]]


class BufferedAnswer:
    """One task calls `begin`, `add` and then `end`; another one reads `head` and `chunks`."""

    def __init__(
        self, *, stalled_reader_seconds: float, most_bytes: int = MOST_BUFFERED_BYTES
    ) -> None:
        self._stalled_reader_seconds = stalled_reader_seconds
        self._most_bytes = most_bytes
        self._head: asyncio.Future[AnswerHead] = asyncio.get_running_loop().create_future()
        self._chunks: deque[bytes] = deque()
        self._size_bytes = 0
        self._added = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    @property
    def has_begun(self) -> bool:
        return self._head.done() and self._head.exception() is None

    # ---- from the server -----------------------------------------------------------------

    def begin(self, head: AnswerHead) -> None:
        self._head.set_result(head)

    async def add(self, chunk: bytes) -> None:
        """Waits while the buffer is full. Raises ReaderStalled."""
        while self._size_bytes >= self._most_bytes:
            self._taken.clear()
            try:
                async with asyncio.timeout(self._stalled_reader_seconds):
                    await self._taken.wait()
            except TimeoutError:
                seconds = self._stalled_reader_seconds
                raise ReaderStalled(f"nothing was read for {seconds:g} s") from None
        self._chunks.append(chunk)
        self._size_bytes += len(chunk)
        self._added.set()

    def end(self, failure: Exception | None = None) -> None:
        """`failure`: why it is not complete. It is raised where the rest is read."""
        if failure is not None and not self._head.done():
            self._head.set_exception(failure)
            self._head.exception()  # the client may have left
        self._ended = True
        self._failure = failure
        self._added.set()

    # ---- to the client -------------------------------------------------------------------

    async def head(self) -> AnswerHead:
        """Raises the failure of a server that has not answered."""
        return await asyncio.shield(self._head)

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it, in order. Raises the failure at the end of what came."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._size_bytes -= len(chunk)
                self._taken.set()
                yield chunk
            if self._ended:
                break
            self._added.clear()
            await self._added.wait()
        if self._failure is not None:
            raise self._failure
