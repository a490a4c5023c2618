"""Trace segments: the files of one server's trace, of which the oldest make room for new ones."""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

SEGMENTS = 8
MAX_FILES = 256  # a server that restarts all the time leaves short ones
_SUFFIX = ".jsonl"


class TraceSegments:
    """Files `000001.jsonl`, … of at most `max_bytes` together. One process writes them.

    A process begins a segment of its own: what a crash cut off stays the last line of another file.
    Raises OSError.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = max(max_bytes // SEGMENTS, 1)
        self._path: Path | None = None  # of the segment that is written now
        self._size = 0

    def append(self, lines: Sequence[bytes], header: bytes) -> None:
        """`header`: the first line of each segment."""
        place = 0
        while place < len(lines):
            if self._path is None or self._size + len(lines[place]) > self._segment_bytes:
                self._begin(header)
            place += self._write(lines, place)

    def read(self) -> Iterator[bytes]:
        """All lines, the oldest first; not those that are appended from now on."""
        for path in self._paths():
            with suppress(FileNotFoundError), path.open("rb") as file:  # it may have made room
                size = os.fstat(file.fileno()).st_size
                for line in file:
                    yield line
                    size -= len(line)
                    if size <= 0:
                        break

    def size_bytes(self) -> int:
        """Of all segments."""
        return sum(path.stat().st_size for path in self._paths())

    def _paths(self) -> list[Path]:
        numbered = (each for each in self._folder.glob(f"*{_SUFFIX}") if each.stem.isdecimal())
        return sorted(numbered, key=lambda path: int(path.stem))

    def _begin(self, header: bytes) -> None:
        self._path = None
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = self._paths()
        number = int(paths[-1].stem) + 1 if paths else 1
        self._make_room(paths)
        path = self._folder / f"{number:06}{_SUFFIX}"
        with path.open("xb") as file:
            file.write(header)
        self._path, self._size = path, len(header)

    def _make_room(self, paths: list[Path]) -> None:
        """For a whole segment."""
        sizes = [path.stat().st_size for path in paths]
        total = sum(sizes)
        for count, (path, size) in enumerate(zip(paths, sizes, strict=True)):
            few = len(paths) - count < MAX_FILES
            if few and total + self._segment_bytes <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _write(self, lines: Sequence[bytes], start: int) -> int:
        """As many as the segment has room for, and at least one; returns how many."""
        room = self._segment_bytes - self._size
        sums = itertools.accumulate(map(len, itertools.islice(lines, start, None)))
        count = max(sum(1 for _ in itertools.takewhile(lambda size: size <= room, sums)), 1)
        content = b"".join(lines[start : start + count])
        path = self._path
        assert path is not None
        self._path = None  # should the write fail in the middle, the next begins a new segment
        with path.open("ab") as file:
            file.write(content)
        self._path = path
        self._size += len(content)
        return count
