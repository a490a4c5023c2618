"""The CUDA kernel's arithmetic, run by Triton's interpreter on the host."""

import importlib
import itertools
import math
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from engine.worker.slot_layout import Copy, SlotLayout, Source, Target

SLOTS, MAX_RANK, INPUTS, OUTPUTS = 3, 16, 40, 24
GARBAGE = 7.0


@pytest.fixture(scope="module")
def scatter() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRITON_INTERPRET", "1")
        yield importlib.reload(importlib.import_module("engine.worker.scatter_kernel"))


def whole(stacked: torch.Tensor) -> Target:
    slot = stacked[0]
    return Target(stacked, tuple(slot.shape), slot.stride(), 0)


def corner(stacked: torch.Tensor, rows: int, columns: int) -> Target:
    return Target(stacked, (rows, columns), (stacked.shape[-1], 1), 0)


class Adapter:
    """One A and one B in a file's data section, and a module that has no part in it."""

    def __init__(self, file: torch.dtype, slots: torch.dtype, rank: int, scale: float) -> None:
        self.stacked = [
            torch.full(shape, GARBAGE, dtype=slots)
            for shape in (
                (SLOTS, 1, MAX_RANK, INPUTS // 2),
                (SLOTS, 1, OUTPUTS, MAX_RANK),
                (SLOTS, 1, MAX_RANK, INPUTS),
            )
        ]
        a, b, _ = self.stacked
        count = rank * INPUTS + OUTPUTS * rank
        whole_numbers = torch.randint(-100, 100, (count,))
        values = (whole_numbers if scale == 0.5 else torch.randn(count)).to(file)
        self.image = values.view(torch.uint8)
        # the second half of A's columns, as a rank of a row-parallel layer takes it
        half = Source(file, (rank, INPUTS // 2), (INPUTS, 1), INPUTS // 2)
        other = Source(file, (OUTPUTS, rank), (rank, 1), rank * INPUTS)
        copies = [
            Copy(half, corner(a, rank, INPUTS // 2), ()),
            Copy(other, corner(b, OUTPUTS, rank), (scale,)),
        ]
        self.layout = SlotLayout(
            self.image.numel(), rank, copies, [whole(stacked) for stacked in self.stacked]
        )

    def expected(self, slot: int) -> list[torch.Tensor]:
        sources = self.layout.sources(self.image.clone())
        sources.scale()
        self.layout.write(slot, sources)
        return [stacked.clone() for stacked in self.stacked]


DTYPES = (torch.float32, torch.float16, torch.bfloat16)
KINDS = list(itertools.product(DTYPES, DTYPES))


@pytest.mark.parametrize(("file", "slots"), KINDS, ids=str)
@pytest.mark.parametrize("rank", [MAX_RANK, 4])
def test_it_fills_a_slot_as_the_separate_copies_do(
    scatter: ModuleType, file: torch.dtype, slots: torch.dtype, rank: int
) -> None:
    # the interpreter cuts bfloat16 off where a GPU rounds: let there be nothing to round
    scale = 0.5 if torch.bfloat16 in (file, slots) else math.sqrt(3)
    adapter = Adapter(file, slots, rank, scale)
    expected = adapter.expected(slot=1)
    for stacked in adapter.stacked:
        stacked.fill_(GARBAGE)
    pieces = adapter.layout.pieces()
    assert pieces is not None
    scatter.SlotScatter(pieces).write(1, adapter.image)
    for ours, theirs in zip(adapter.stacked, expected, strict=True):
        assert torch.equal(ours, theirs)
        assert (ours[0] == GARBAGE).all()
        assert (ours[2] == GARBAGE).all()


def test_a_transposed_matrix_is_left_to_the_separate_copies() -> None:
    stacked = torch.zeros(SLOTS, 8, MAX_RANK)
    source = Source(torch.float32, (8, 4), (1, 8), 0)
    layout = SlotLayout(128, 4, [Copy(source, corner(stacked, 8, 4), ())], [whole(stacked)])
    assert layout.pieces() is None


def test_a_matrix_outside_the_corner_is_left_to_the_separate_copies() -> None:
    stacked = torch.zeros(SLOTS, 8, MAX_RANK)
    target = Target(stacked, (4, 4), (MAX_RANK, 1), 4 * MAX_RANK)
    source = Source(torch.float32, (4, 4), (4, 1), 0)
    assert SlotLayout(64, 4, [Copy(source, target, ())], [whole(stacked)]).pieces() is None


def test_a_file_may_end_within_a_value_of_another_dtype(scatter: ModuleType) -> None:
    """As with an odd number of 16-bit values behind 32-bit ones."""
    adapter = Adapter(torch.float32, torch.float32, 4, 0.5)
    expected = adapter.expected(slot=1)
    for stacked in adapter.stacked:
        stacked.fill_(GARBAGE)
    pieces = adapter.layout.pieces()
    assert pieces is not None
    image = torch.cat([adapter.image, torch.tensor([1, 2], dtype=torch.uint8)])
    scatter.SlotScatter(pieces).write(1, image)
    assert all(map(torch.equal, adapter.stacked, expected))
