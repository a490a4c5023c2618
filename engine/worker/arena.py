"""Arena of host memory for adapters: allocated once and reused, pinned on CUDA.

Allocating pinned memory takes as long as an entire cold load, and stalls kernel launches meanwhile.
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

SLAB_BYTES = 256 * 2**20
GRANULE_BYTES = 64 * 2**10


@dataclass(slots=True)
class Block:
    """A piece of the arena. `memory`: (bytes,) uint8, uninitialised."""

    memory: torch.Tensor
    slab: int
    start: int
    length: int  # including the padding to a granule


class HostArena:
    """Allocates blocks from slabs, which are never returned to the system. Thread-safe.

    A block that the device may still be reading is released together with the event to wait for.
    Blocks are released by `__del__`, on the step thread or inside any allocation: a release takes
    no lock and waits for nothing, however long a new slab takes to be pinned.
    """

    def __init__(self, *, pinned: bool, slab_bytes: int = SLAB_BYTES) -> None:
        self._pinned = pinned
        self._slab_bytes = slab_bytes
        self._slabs: list[torch.Tensor] = []
        self._free: list[list[tuple[int, int]]] = []  # per slab: (start, length), by start
        self._released: deque[tuple[Block, Any]] = deque()
        self._lock = threading.Lock()  # of slabs and holes; held briefly
        self._growing = threading.Lock()  # held while a slab is pinned

    @property
    def is_pinned(self) -> bool:
        return self._pinned

    @property
    def allocated_bytes(self) -> int:
        return sum(slab.numel() for slab in self._slabs)

    def reserve(self, size_bytes: int, largest_bytes: int = 1) -> None:
        """Allocate up front, in few pieces, so that no load has to: room for as many adapters of
        `largest_bytes` as there are in `size_bytes`. None lies in two pieces, so that what is left
        at the end of each is no room.
        """
        length = block_bytes(largest_bytes)
        least = _next_power(max(self._slab_bytes, length))
        with self._growing:
            there = sum(slab.numel() // length for slab in self._slabs)
            for piece in _pieces(-(-size_bytes // length) - there, length, least):
                self._grow(piece)

    def allocate(self, size_bytes: int) -> Block:
        """Raises RuntimeError or MemoryError if the system is out of memory."""
        length = block_bytes(size_bytes)
        block = self._take(size_bytes, length)
        while block is None:
            with self._growing:
                block = self._take(size_bytes, length)  # another thread may have grown it
                if block is None:
                    self._grow(_next_power(max(length, self._slab_bytes)))
                    block = self._take(size_bytes, length)
        return block

    def _take(self, size_bytes: int, length: int) -> Block | None:
        """A block in one of the holes; None if none is large enough."""
        with self._lock:
            self._collect()
            place = self._best_fit(length)
            if place is None:
                return None
            slab, hole = place
            start, available = self._free[slab].pop(hole)
            if available > length:
                self._free[slab].insert(hole, (start + length, available - length))
            memory = self._slabs[slab][start : start + size_bytes]
            return Block(memory, slab, start, length)

    def release(self, block: Block, last_read: Any = None) -> None:
        """`last_read`: the CUDA event recorded after the last copy out of the block, if any."""
        self._released.append((block, last_read))  # collected by the next allocation

    def _collect(self) -> None:
        for _ in range(len(self._released)):
            block, last_read = self._released.popleft()
            if last_read is None or last_read.query():
                self._add_hole(block)
            else:
                self._released.append((block, last_read))

    def _add_hole(self, block: Block) -> None:
        holes = sorted([*self._free[block.slab], (block.start, block.length)])
        joined = [holes[0]]
        for start, length in holes[1:]:
            before, size = joined[-1]
            if before + size == start:
                joined[-1] = (before, size + length)
            else:
                joined.append((start, length))
        self._free[block.slab] = joined

    def _best_fit(self, length: int) -> tuple[int, int] | None:
        """(slab, hole) of the smallest hole that is large enough."""
        fitting = [
            (available, slab, hole)
            for slab, holes in enumerate(self._free)
            for hole, (_, available) in enumerate(holes)
            if available >= length
        ]
        if not fitting:
            return None
        _, slab, hole = min(fitting)
        return slab, hole

    def _grow(self, size_bytes: int) -> None:
        """`size_bytes`: a power of two. Torch pins no other amounts, but rounds them up to one."""
        slab = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=self._pinned)
        with self._lock:
            self._slabs.append(slab)
            self._free.append([(0, size_bytes)])


def _pieces(places: int, length: int, least: int) -> list[int]:
    """Powers of two with room for so many blocks of this length, and with little besides."""
    if places <= 0:
        return []
    whole = _next_power(places * length)
    if whole <= least:
        return [whole]
    half = whole // 2
    return min([whole], [half, *_pieces(places - half // length, length, least)], key=sum)


def block_bytes(size_bytes: int) -> int:
    """What a block of this size takes: whole granules."""
    return max(1, -(-size_bytes // GRANULE_BYTES)) * GRANULE_BYTES


def _next_power(size_bytes: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << (size_bytes - 1).bit_length()
