"""Read plan: the ranges of an adapter's file that a rank needs, and their places in its image.

With tensor or pipeline parallelism the slots of a rank hold only a part of an adapter. A rank that
kept whole files would take their memory once more for each rank, and copy it all to its device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from engine.worker.slot_layout import Copy, Head, Read, Source

WHOLE_FROM = 0.75
"""The share of the file from which on all of it is read: many small reads cost more."""

_LARGEST_ITEM_BYTES = 4  # an image is viewed as values of each dtype, whole
SHORTEST_ROW_BYTES = 1024  # shorter ones are read with what lies between them


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """`copies` and `heads` refer to the image, which has `size_bytes` and is filled by `reads`."""

    copies: list[Copy]
    heads: list[Head]
    reads: list[Read]
    size_bytes: int


def plan_reads(copies: Sequence[Copy], heads: Sequence[Head], file_bytes: int) -> ReadPlan:
    """`copies`, `heads`: with sources in the data section of the file, which has `file_bytes`."""
    places = _Places()
    sources = {copied.source for copied in copies}
    for head in heads:
        sources |= {head.weight} if head.bias is None else {head.weight, head.bias}
    moved = {source: places.add(source) for source in sorted(sources, key=_first_byte)}
    size_bytes = -(-places.size_bytes // _LARGEST_ITEM_BYTES) * _LARGEST_ITEM_BYTES
    if size_bytes >= WHOLE_FROM * file_bytes:
        return ReadPlan(list(copies), list(heads), [Read(0, file_bytes, 0)], file_bytes)
    return ReadPlan(
        [replace(copied, source=moved[copied.source]) for copied in copies],
        [_move_head(head, moved) for head in heads],
        places.reads,
        size_bytes,
    )


def _move_head(head: Head, moved: dict[Source, Source]) -> Head:
    bias = None if head.bias is None else moved[head.bias]
    return Head(head.name, moved[head.weight], bias)


class _Places:
    """Lays one source behind the other in the image."""

    def __init__(self) -> None:
        self.reads: list[Read] = []
        self.size_bytes = 0

    def add(self, source: Source) -> Source:
        """The source in the image."""
        itemsize = source.dtype.itemsize
        self.size_bytes = -(-self.size_bytes // itemsize) * itemsize
        place = self.size_bytes // itemsize
        by_row = _is_cut(source)
        for start, end in _ranges(source, by_row=by_row):
            self._read(start * itemsize, end * itemsize)
        stride = (source.size[1], 1) if by_row else source.stride
        return replace(source, stride=stride, offset=place)

    def _read(self, start: int, end: int) -> None:
        place, self.size_bytes = self.size_bytes, self.size_bytes + end - start
        if self.reads:
            last = self.reads[-1]
            if last.end == start and last.place + last.end - last.start == place:
                self.reads[-1] = Read(last.start, end, last.place)
                return
        self.reads.append(Read(start, end, place))


def _is_cut(source: Source) -> bool:
    """Whether it is some columns of a matrix, in rows that are long enough to be read alone."""
    if len(source.size) != 2 or source.stride[1] != 1:
        return False
    columns, row_stride = source.size[1], source.stride[0]
    return row_stride > columns and columns * source.dtype.itemsize >= SHORTEST_ROW_BYTES


def _ranges(source: Source, *, by_row: bool) -> Iterator[tuple[int, int]]:
    """In elements."""
    if 0 in source.size:
        return
    if by_row:
        rows, columns = source.size
        for row in range(rows):
            start = source.offset + row * source.stride[0]
            yield start, start + columns
        return
    last = sum((size - 1) * step for size, step in zip(source.size, source.stride, strict=True))
    yield source.offset, source.offset + last + 1


def _first_byte(source: Source) -> int:
    return int(source.offset * source.dtype.itemsize)
