"""Slot layout: where each byte of an adapter's file belongs in a slot, in few large operations."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

_Scales = list[tuple[float, list[torch.Tensor]]]


@dataclass(frozen=True, slots=True)
class Read:
    """A range of the file's data section, in bytes, and its place in the image."""

    start: int
    end: int
    place: int


def values_of(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`image`: (bytes,) uint8. Without what is left at its end, if that is less than a value."""
    return image[: image.numel() // dtype.itemsize * dtype.itemsize].view(dtype)


@dataclass(frozen=True, slots=True)
class Source:
    """A view of the image, which is the file's data section or the part of it that is needed."""

    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # in elements

    def of(self, image: torch.Tensor) -> torch.Tensor:
        """`image`: (bytes,) uint8."""
        whole = values_of(image, self.dtype)
        return whole.as_strided(self.size, self.stride, whole.storage_offset() + self.offset)


@dataclass(frozen=True, slots=True)
class Target:
    """A view of one stacked tensor, for slot 0."""

    stacked: torch.Tensor  # (slots, ...)
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # in elements

    def in_slot(self, slot: int) -> torch.Tensor:
        shift = slot * self.stacked.stride(0)
        return self.stacked.as_strided(self.size, self.stride, self.offset + shift)

    def fills_slot(self) -> bool:
        return bool(math.prod(self.size) == self.stacked[0].numel())


@dataclass(frozen=True, slots=True)
class Head:
    """A whole classification head in the file, by the name that vLLM has for it."""

    name: str
    weight: Source
    bias: Source | None


@dataclass(frozen=True, slots=True)
class Copy:
    """One piece of the file and its target. `scales`: the factors its values are multiplied by."""

    source: Source
    target: Target
    scales: tuple[float, ...]

    def keeps_dtype(self) -> bool:
        return bool(self.source.dtype == self.target.stacked.dtype)


@dataclass(frozen=True, slots=True)
class Piece:
    """One whole stacked tensor of a slot: a matrix from the file in its corner, zeros elsewhere."""

    stacked: torch.Tensor  # (slots, ..., rows, target_columns), contiguous
    source_dtype: torch.dtype
    start: int  # in elements of the source's dtype
    rows: int
    columns: int
    row_stride: int
    scale: float

    @property
    def target_columns(self) -> int:
        return int(self.stacked.shape[-1])

    @property
    def length(self) -> int:
        return int(self.stacked[0].numel())


@dataclass(frozen=True, slots=True)
class _SlotViews:
    zeroed: list[torch.Tensor]
    written: list[torch.Tensor]
    scaled_last: _Scales  # for values that change dtype: vLLM rounds before it scales


class SlotLayout:
    """Copies files of one kind into slots.

    `size_bytes` is the length of their image, which is filled by `reads`: if there are none, by the
    whole data section. `heads` are not copied here: see `engine.worker.classification_heads`.
    """

    def __init__(
        self,
        size_bytes: int,
        rank: int,
        copies: Sequence[Copy],
        zeroed: Sequence[Target],
        heads: Sequence[Head] = (),
        reads: Sequence[Read] = (),
    ) -> None:
        self.size_bytes = size_bytes
        self.reads = tuple(reads) or (Read(0, size_bytes, 0),)
        self.rank = rank
        self.heads = tuple(heads)
        self._copies = list(copies)
        self._zeroed = list(zeroed)

    @cached_property
    def _slots(self) -> list[_SlotViews]:
        slots = self._copies[0].target.stacked.shape[0]
        return [_views(slot, self._copies, self._zeroed) for slot in range(slots)]

    def create_views(self) -> None:
        """What `write` needs, in the background: each takes a microsecond and half a KB, and there
        are thousands for a slot. Where a kernel fills the slots, nothing needs them.
        """
        _ = self._slots

    def sources(self, image: torch.Tensor) -> "SlotSources":
        """Views of `image`: (size_bytes,) uint8, not scaled yet."""
        return SlotSources(
            [copied.source.of(image) for copied in self._copies],
            _group_scales(
                (copied.scales, copied.source.of(image))
                for copied in self._distinct()
                if copied.keeps_dtype()
            ),
        )

    def _distinct(self) -> Iterable[Copy]:
        return {copied.source: copied for copied in self._copies}.values()

    def pieces(self) -> list[Piece] | None:
        """The whole slot as matrices in corners, or None if the layout is more complex."""
        by_stacked = {id(target.stacked): target for target in self._zeroed}
        corners: dict[int, Copy] = {id(copied.target.stacked): copied for copied in self._copies}
        simple = (
            len(corners) == len(self._copies)
            and corners.keys() <= by_stacked.keys()
            and all(map(_is_a_corner, self._copies))
            and all(map(Target.fills_slot, self._zeroed))
            and all(target.stacked.is_contiguous() for target in self._zeroed)
        )
        if not simple:
            return None
        dtype = self._copies[0].source.dtype
        return [_piece(target, corners.get(key), dtype) for key, target in by_stacked.items()]

    def write(self, slot: int, sources: "SlotSources") -> None:
        """Fill a slot from scaled sources on its own device. On CUDA this only enqueues."""
        views = self._slots[slot]
        if views.zeroed:
            torch._foreach_zero_(views.zeroed)
        torch._foreach_copy_(views.written, sources.pieces)
        for factor, scaled in views.scaled_last:
            _multiply_each(scaled, factor)


@dataclass(frozen=True, slots=True)
class SlotSources:
    """The pieces of one image, in the layout's order, and those to be scaled."""

    pieces: list[torch.Tensor]
    scaled: _Scales

    def scale(self) -> None:
        """Multiply in place the values that already have their final dtype. Once for each image."""
        for factor, views in self.scaled:
            multiply = torch._foreach_mul_ if views[0].is_cuda else _multiply_each
            multiply(views, factor)


def _is_a_corner(copied: Copy) -> bool:
    source, target = copied.source, copied.target
    in_rows = target.stride == (target.stacked.shape[-1], 1) and source.stride[-1] == 1
    return len(source.size) == 2 and in_rows and target.offset == 0 and len(copied.scales) <= 1


def _piece(target: Target, copied: Copy | None, dtype: torch.dtype) -> Piece:
    if copied is None:
        return Piece(target.stacked, dtype, 0, 0, 0, 0, 1.0)
    source = copied.source
    (rows, columns), (row_stride, _) = source.size, source.stride
    scale = copied.scales[0] if copied.scales else 1.0
    return Piece(target.stacked, source.dtype, source.offset, rows, columns, row_stride, scale)


def _views(slot: int, copies: Sequence[Copy], zeroed: Sequence[Target]) -> _SlotViews:
    filled = {id(c.target.stacked) for c in copies if c.target.fills_slot()}
    written = [copied.target.in_slot(slot) for copied in copies]
    placed = list(zip(copies, written, strict=True))
    return _SlotViews(
        zeroed=[t.in_slot(slot) for t in zeroed if id(t.stacked) not in filled],
        written=written,
        scaled_last=_group_scales((c.scales, view) for c, view in placed if not c.keeps_dtype()),
    )


def _group_scales(pieces: Iterable[tuple[tuple[float, ...], torch.Tensor]]) -> _Scales:
    """Views grouped by factor; each piece's factors stay in order."""
    grouped: dict[tuple[int, float], list[torch.Tensor]] = {}
    for factors, view in pieces:
        for step, factor in enumerate(factors):
            grouped.setdefault((step, factor), []).append(view)
    in_order = sorted(grouped.items(), key=lambda group: group[0][0])
    return [(factor, views) for (_, factor), views in in_order]


def _multiply_each(views: list[torch.Tensor], factor: float) -> None:
    """As in vLLM. On the host `_foreach_mul_` rounds the factor to the tensors' dtype first."""
    for view in views:
        view.mul_(factor)
