"""Parallel read: ranges of a file into memory, large ones in pieces by several threads.

One thread copies some GB/s out of the page cache, and one request at a time is in the queue of its
disk: a large adapter's first token waits for it.
"""

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from engine.worker.slot_layout import Read

PIECE_BYTES = 4 * 2**20
LEAST_MEAN_BYTES = 256 * 2**10
"""Of pieces, for more than one thread: between short ones each waits for the GIL."""
MAX_THREADS = 4
CPUS_PER_THREAD = 4
"""The others are for the model's own threads. With a device these are few, and half of the CPUs
read: eight threads take 3.6 ms for 84 MB where four take 5.4."""


class EndOfFile(Exception):
    """The file ends before a range does."""


def choose_thread_count(cpus: int | None = None, *, with_device: bool = False) -> int:
    """For all loads that are read at a time. `cpus`: by default, as many as this process may use.

    `with_device`: the model is on one.
    """
    usable = len(os.sched_getaffinity(0)) if cpus is None else cpus
    factor = 2 if with_device else 1
    return max(1, min(factor * MAX_THREADS, factor * usable // CPUS_PER_THREAD))


def read_ranges(
    descriptor: int, offset: int, reads: Sequence[Read], into: memoryview, threads: int
) -> None:
    """Fill `into`, without the GIL. `offset`: of position 0 of `reads` in the file, in bytes.

    The caller is one of the threads. The others live no longer than this call: a disk that hangs
    keeps those of its own load only. Raises EndOfFile, OSError.
    """
    pieces = deque(_split(reads))
    work = _Work(descriptor, offset, pieces, into)
    is_worth_it = sum(read.end - read.start for read in reads) >= LEAST_MEAN_BYTES * len(pieces)
    helpers = _start_helpers(work, min(threads, len(pieces)) - 1) if is_worth_it else []
    work.run()
    for helper in helpers:
        helper.join()
    if work.errors:
        raise work.errors[0]


class _Work:
    """Pieces that are left, and what went wrong."""

    def __init__(self, descriptor: int, offset: int, pieces: deque[Read], into: memoryview) -> None:
        self.errors: list[Exception] = []
        self._descriptor = descriptor
        self._offset = offset
        self._pieces = pieces
        self._into = into

    def run(self) -> None:
        """Until nothing is left, or one of the threads has failed."""
        while not self.errors:
            try:
                piece = self._pieces.popleft()
            except IndexError:
                return
            try:
                self._read(piece)
            except Exception as error:  # for the caller, in whichever thread
                self.errors.append(error)

    def _read(self, piece: Read) -> None:
        start, place = piece.start + self._offset, piece.place
        left = self._into[place : place + piece.end - piece.start]
        while left:
            count = os.preadv(self._descriptor, [left], start)
            if count == 0:
                raise EndOfFile
            left, start = left[count:], start + count


def _start_helpers(work: _Work, count: int) -> list[threading.Thread]:
    helpers: list[threading.Thread] = []
    for number in range(count):
        helper = threading.Thread(target=work.run, name=f"adaptry-read-{number}", daemon=True)
        try:
            helper.start()
        except RuntimeError:  # there are no more threads: the caller's reads on
            break
        helpers.append(helper)
    return helpers


def _split(reads: Sequence[Read]) -> Iterator[Read]:
    for read in reads:
        for start in range(read.start, read.end, PIECE_BYTES):
            end = min(start + PIECE_BYTES, read.end)
            yield Read(start, end, read.place + start - read.start)
