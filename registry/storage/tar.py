"""Tar archives as streams of chunks. The same content gives the same bytes."""

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 2**20
END = b"\0" * (2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive. `content` is a path for what is too large to hold in memory."""

    name: str
    content: Path | bytes


def tar_chunks(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The whole archive, in pieces of about a mebibyte. Raises OSError, FileChanged."""
    piece = bytearray()
    for entry in entries:
        for chunk in entry_chunks(entry):
            piece += chunk
            if len(piece) >= CHUNK_BYTES:
                yield bytes(piece)
                piece.clear()
    yield bytes(piece) + END


def entry_chunks(entry: Entry) -> Iterator[bytes]:
    """One file, without times, owner or path. Raises OSError, FileChanged."""
    if isinstance(entry.content, bytes):
        yield header(entry.name, len(entry.content))
        yield entry.content
        yield padding(len(entry.content))
        return
    size_bytes = entry.content.stat().st_size
    yield header(entry.name, size_bytes)
    yield from _read(entry.content, size_bytes)
    yield padding(size_bytes)


def header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    return info.tobuf(tarfile.GNU_FORMAT)  # the only one for files over 8 GiB without extra entries


def padding(size_bytes: int) -> bytes:
    return b"\0" * (-size_bytes % tarfile.BLOCKSIZE)


class FileChanged(OSError):
    """The file's size no longer matches the header."""


def _read(file: Path, size_bytes: int) -> Iterator[bytes]:
    left = size_bytes
    with file.open("rb") as content:
        while left and (chunk := content.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
        if left or content.read(1):
            raise FileChanged(f"{file.name} changed while it was read")


class ChunkReader:
    """File-like reader of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self.read_bytes = 0

    def read(self, wanted: int, /) -> bytes:
        while not self._chunk:
            if (chunk := next(self._chunks, None)) is None:
                return b""
            self._chunk = chunk
            self.read_bytes += len(chunk)
        taken, self._chunk = self._chunk[:wanted], self._chunk[wanted:]
        return taken
