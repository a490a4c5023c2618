"""Bridge from an asynchronous byte stream to a thread that reads it."""

import asyncio
import queue
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from registry.errors import InvalidArchive, StoreUnavailable
from registry.sources.disks.store_threads import ARCHIVES, STEPS, WORK
from registry.transfer.unpack import ArchiveLimits, Unpacked, unpack

_BLOCK_BYTES = 2**20
_BLOCKS = 4
_RETRY_SECONDS = 0.1
_ROOM_SECONDS = 0.005  # a disk that takes 800 MB/s never waits for the next look
_MAX_TRAILING_BYTES = 16 * 2**20


class _Pipe:
    """Bounded queue of blocks."""

    def __init__(self) -> None:
        self._blocks: queue.Queue[bytes] = queue.Queue(_BLOCKS)
        self._block = b""
        self._ended = False
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    async def write(self, block: bytes) -> None:
        """Wait until there is room. An empty block is the end. Raises StoreUnavailable."""
        clock = asyncio.get_running_loop().time
        latest = clock() + WORK.seconds
        while not self.is_closed:
            if not self._blocks.full():  # this thread alone puts them
                self._blocks.put_nowait(block)
                return
            if clock() > latest:
                raise StoreUnavailable(f"nothing could be written for {WORK.seconds:g} s")
            await asyncio.sleep(_ROOM_SECONDS)

    def read(self, size: int, /) -> bytes:
        while not (self._block or self._ended):
            if self.is_closed:
                raise InvalidArchive("archive_incomplete", "the archive was cut off on its way")
            try:
                self._block = self._blocks.get(timeout=_RETRY_SECONDS)
                self._ended = not self._block
            except queue.Empty:
                continue
        taken, self._block = self._block[:size], self._block[size:]
        return taken


async def unpack_stream(
    chunks: AsyncIterator[bytes], into: Path, limits: ArchiveLimits
) -> Unpacked:
    """Unpack while receiving. Raises InvalidArchive, SourceTooLarge, OSError."""
    pipe = _Pipe()
    unpacking = asyncio.ensure_future(ARCHIVES.run(partial(unpack, pipe, into, limits)))

    def end(task: asyncio.Task[Unpacked]) -> None:
        pipe.close()  # unblocks the writer
        if not task.cancelled():
            task.exception()  # retrieved: who sent the archive may have left

    unpacking.add_done_callback(end)
    try:
        await _feed(chunks, pipe, unpacking)
        return await asyncio.shield(unpacking)
    finally:
        pipe.close()  # ends the thread if the request was cancelled
        await asyncio.wait({unpacking}, timeout=STEPS.seconds)


async def _feed(
    chunks: AsyncIterator[bytes], pipe: _Pipe, unpacking: asyncio.Task[Unpacked]
) -> None:
    block = bytearray()
    trailing_bytes = 0
    async for chunk in chunks:
        if unpacking.done():  # with an error, or what follows is padding
            trailing_bytes += len(chunk)
            if unpacking.exception() or trailing_bytes > _MAX_TRAILING_BYTES:
                return
            continue
        block += chunk
        if len(block) >= _BLOCK_BYTES:
            await pipe.write(bytes(block))
            block.clear()
    if block:
        await pipe.write(bytes(block))
    await pipe.write(b"")
