"""Where each byte of an adapter's file belongs in a slot, as a few large operations."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

_Scales = list[tuple[float, list[torch.Tensor]]]


@dataclass(frozen=True, slots=True)
class Source:
    """A view of the file's data section."""

    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # in elements

    def of(self, image: torch.Tensor) -> torch.Tensor:
        """`image`: (bytes,) uint8."""
        itemsize = self.dtype.itemsize
        whole = image[: image.numel() // itemsize * itemsize].view(self.dtype)
        return whole.as_strided(self.size, self.stride, whole.storage_offset() + self.offset)


@dataclass(frozen=True, slots=True)
class Target:
    """A view of one stacked tensor, as it is for slot 0."""

    stacked: torch.Tensor  # (slots, ...)
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # in elements

    def in_slot(self, slot: int) -> torch.Tensor:
        shift = slot * self.stacked.stride(0)
        return self.stacked.as_strided(self.size, self.stride, self.offset + shift)

    def fills_its_slot(self) -> bool:
        return bool(math.prod(self.size) == self.stacked[0].numel())


@dataclass(frozen=True, slots=True)
class Copy:
    """One piece of the file and its place. `scales`: what its values are multiplied with."""

    source: Source
    target: Target
    scales: tuple[float, ...]

    def keeps_its_dtype(self) -> bool:
        return bool(self.source.dtype == self.target.stacked.dtype)


@dataclass(frozen=True, slots=True)
class _SlotViews:
    zeroed: list[torch.Tensor]
    written: list[torch.Tensor]
    scaled: _Scales  # all that is scaled
    scaled_last: _Scales  # only what changes its dtype on the way: vLLM rounds it before it scales


class SlotLayout:
    """Copies files of one kind into slots. `size_bytes` is the length of their data section."""

    def __init__(
        self, size_bytes: int, rank: int, copies: Sequence[Copy], zeroed: Sequence[Target]
    ) -> None:
        self.size_bytes = size_bytes
        self.rank = rank
        self._copies = list(copies)
        slots = copies[0].target.stacked.shape[0]
        # made here, in the background: a view costs a microsecond, and there are thousands
        self._slots = [_views(slot, copies, zeroed) for slot in range(slots)]

    def sources(self, image: torch.Tensor) -> "SlotSources":
        """Views of `image`: (size_bytes,) uint8."""
        return SlotSources(
            [copied.source.of(image) for copied in self._copies],
            _scales(
                (copied.scales, copied.source.of(image))
                for copied in self._distinct()
                if copied.keeps_its_dtype()
            ),
        )

    def _distinct(self) -> Iterable[Copy]:
        return {copied.source: copied for copied in self._copies}.values()

    def write(self, slot: int, sources: "SlotSources") -> None:
        """Fill a slot on the host from an image that stays as it is."""
        views = self._slots[slot]
        self._place(views, sources)
        _scale(views.scaled, _one_by_one)

    def scatter(self, slot: int, staged: "SlotSources") -> None:
        """Fill a slot on the device from a staged image, which is spoilt. Only enqueues work."""
        views = self._slots[slot]
        _scale(staged.scaled, torch._foreach_mul_)
        self._place(views, staged)
        _scale(views.scaled_last, _one_by_one)

    def _place(self, views: _SlotViews, sources: "SlotSources") -> None:
        if views.zeroed:
            torch._foreach_zero_(views.zeroed)
        torch._foreach_copy_(views.written, sources.pieces)


@dataclass(frozen=True, slots=True)
class SlotSources:
    """The pieces of one image, in the order of the layout, and those that are to be scaled."""

    pieces: list[torch.Tensor]
    scaled: _Scales


def _views(slot: int, copies: Sequence[Copy], zeroed: Sequence[Target]) -> _SlotViews:
    filled = {id(c.target.stacked) for c in copies if c.target.fills_its_slot()}
    written = [copied.target.in_slot(slot) for copied in copies]
    placed = list(zip(copies, written, strict=True))
    return _SlotViews(
        zeroed=[t.in_slot(slot) for t in zeroed if id(t.stacked) not in filled],
        written=written,
        scaled=_scales((copied.scales, view) for copied, view in placed),
        scaled_last=_scales((c.scales, view) for c, view in placed if not c.keeps_its_dtype()),
    )


def _scales(pieces: Iterable[tuple[tuple[float, ...], torch.Tensor]]) -> _Scales:
    """What is multiplied with the same factor, together; a piece's factors in their order."""
    grouped: dict[tuple[int, float], list[torch.Tensor]] = {}
    for factors, view in pieces:
        for turn, factor in enumerate(factors):
            grouped.setdefault((turn, factor), []).append(view)
    in_order = sorted(grouped.items(), key=lambda group: group[0][0])
    return [(factor, views) for (_, factor), views in in_order]


def _scale(scales: _Scales, multiply: Callable[[list[torch.Tensor], float], object]) -> None:
    for factor, views in scales:
        multiply(views, factor)


def _one_by_one(views: list[torch.Tensor], factor: float) -> None:
    """As vLLM does. On the host `_foreach_mul_` rounds the factor to the tensors' dtype first."""
    for view in views:
        view.mul_(factor)
