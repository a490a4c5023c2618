"""Scatter kernel: fills a slot from a staged image by placing, zero-padding and scaling.

As separate operations this is a thousand small copies, above all if an adapter's rank is smaller
than the slots': the engine's thread would spend longer launching them than the copy takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from engine.worker.slot_layout import Piece, values_of

_BLOCK = 4096
_COLUMNS = 8

_TRITON_TYPES = {
    torch.float32: tl.float32,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}


@triton.jit(do_not_specialize=["slot"])  # type: ignore[untyped-decorator]
def _scatter(  # type: ignore[no-untyped-def]
    image,
    table,
    scales,
    owners,
    blocks,
    slot,
    BLOCK: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
    SLOT_TYPE: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0)
    piece = tl.load(owners + program)
    entry = table + piece * COLUMNS
    target = tl.load(entry) + slot * tl.load(entry + 1)
    target_columns = tl.load(entry + 2)
    target_length = tl.load(entry + 3)
    start = tl.load(entry + 4)
    rows = tl.load(entry + 5)
    columns = tl.load(entry + 6)
    row_stride = tl.load(entry + 7)
    scale = tl.load(scales + piece)

    at = tl.load(blocks + program).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row = at // target_columns
    column = at % target_columns
    stored = (row < rows) & (column < columns)
    values = tl.load(image + start + row * row_stride + column, mask=stored, other=0.0)
    # as in vLLM: first the slots' dtype, then the scale, each rounded
    scaled = values.to(SLOT_TYPE).to(tl.float32) * scale
    pointer = target.to(tl.pointer_type(SLOT_TYPE))
    tl.store(pointer + at, scaled.to(SLOT_TYPE), mask=at < target_length)


@dataclass(frozen=True, slots=True)
class _Launch:
    """All pieces whose sources share a dtype."""

    source_dtype: torch.dtype
    table: torch.Tensor  # (pieces, 8) int64
    scales: torch.Tensor  # (pieces,) float32
    owners: torch.Tensor  # (programs,) int32: the piece
    blocks: torch.Tensor  # (programs,) int32: the part of it


class SlotScatter:
    """Fills slots of one layout on a CUDA device."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._slot_type = _TRITON_TYPES[pieces[0].stacked.dtype]
        dtypes = {piece.source_dtype for piece in pieces}
        self._launches = [
            _launch(dtype, [piece for piece in pieces if piece.source_dtype == dtype])
            for dtype in dtypes
        ]

    def write(self, slot: int, image: torch.Tensor) -> None:
        """`image`: (bytes,) uint8 on the slots' device. Only enqueues, on the current stream."""
        for launch in self._launches:
            _scatter[(launch.owners.numel(),)](
                values_of(image, launch.source_dtype),
                launch.table,
                launch.scales,
                launch.owners,
                launch.blocks,
                slot,
                BLOCK=_BLOCK,
                COLUMNS=_COLUMNS,
                SLOT_TYPE=self._slot_type,
            )


def compile_for(source_dtype: torch.dtype, slot_dtype: torch.dtype, device: torch.device) -> None:
    """Launch it once on scratch memory: compiling takes a second, too long for a step."""
    stacked = torch.zeros(1, 1, 16, 16, dtype=slot_dtype, device=device)
    image = torch.zeros(1024, dtype=torch.uint8, device=device)
    SlotScatter([Piece(stacked, source_dtype, 0, 8, 16, 16, 1.0)]).write(0, image)


def _launch(dtype: torch.dtype, pieces: Sequence[Piece]) -> _Launch:
    device = pieces[0].stacked.device
    counts = torch.tensor([-(-piece.length // _BLOCK) for piece in pieces])
    owners = torch.repeat_interleave(torch.arange(len(pieces)), counts)
    firsts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    blocks = torch.arange(len(owners)) - firsts
    return _Launch(
        dtype,
        table=torch.tensor([_entry(piece) for piece in pieces], dtype=torch.int64).to(device),
        scales=torch.tensor([piece.scale for piece in pieces], dtype=torch.float32).to(device),
        owners=owners.to(torch.int32).to(device),
        blocks=blocks.to(torch.int32).to(device),
    )


def _entry(piece: Piece) -> list[int]:
    stacked = piece.stacked
    return [
        stacked.data_ptr(),
        stacked.stride(0) * stacked.element_size(),
        piece.target_columns,
        piece.length,
        piece.start,
        piece.rows,
        piece.columns,
        piece.row_stride,
    ]
