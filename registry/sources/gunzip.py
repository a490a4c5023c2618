"""Archive byte stream, unpacked if it is gzipped, never more of it than allowed."""

import zlib
from typing import BinaryIO, NoReturn, Protocol

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.sources.base import FetchLimits, Progress
from registry.sources.quarantine import CHUNK_BYTES, too_large

_GZIP = b"\x1f\x8b"
_HEADERS_PER_FILE_BYTES = 4096
_PACKED_BYTES = 2**20


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class ArchiveStream:
    """Sequential reader; every byte it returns counts against the limits."""

    def __init__(self, file: BinaryIO, limits: FetchLimits, progress: Progress) -> None:
        magic = file.read(len(_GZIP))
        file.seek(0)
        self._reader: _Reader = _Gunzip(file) if magic == _GZIP else file
        self._limits = limits
        self._progress = progress
        self._left_bytes = limits.max_bytes + limits.max_files * _HEADERS_PER_FILE_BYTES

    def read_up_to(self, size: int) -> bytes:
        """Fewer bytes only at the end. Raises SourceTooLarge, InvalidAdapter, Stopped."""
        self._progress.advance(0)
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise too_large(self._limits)
        parts: list[bytes] = []
        while size and (part := self._reader.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def read(self, size: int) -> bytes:
        """Exactly that many bytes. Raises InvalidAdapter if there are fewer."""
        content = self.read_up_to(size)
        if len(content) < size:
            raise_invalid("it is cut off")
        return content

    def skip(self, size: int) -> None:
        while size:
            size -= len(self.read(min(size, CHUNK_BYTES)))


class _Gunzip:
    """Like `gzip.GzipFile`, which would read a file name of any length from the header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packed = b""
        self._inflate = zlib.decompressobj(wbits=31)

    def read(self, size: int, /) -> bytes:
        while True:
            packed = self._packed or self._file.read(_PACKED_BYTES)
            if self._inflate.eof:
                if not packed.strip(b"\0"):
                    return b""
                self._inflate = zlib.decompressobj(wbits=31)
            unpacked = self._unpack(packed, size)
            if unpacked:
                return unpacked
            if not packed and not self._inflate.eof:
                raise_invalid("it is cut off")

    def _unpack(self, packed: bytes, size: int) -> bytes:
        try:
            unpacked = self._inflate.decompress(packed, size)
        except zlib.error:
            raise_invalid("it is gzipped and damaged")
        self._packed = self._inflate.unused_data or self._inflate.unconsumed_tail
        return unpacked


def raise_invalid(why: str) -> NoReturn:
    """Raises InvalidAdapter."""
    raise InvalidAdapter(Defect.ARCHIVE_INVALID, f"the archive can't be read: {why}")
