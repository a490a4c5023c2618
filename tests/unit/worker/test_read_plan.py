"""Read plan: what a rank reads of a file is what its slots hold, wherever it lies in the file."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.worker import read_plan
from engine.worker.read_plan import plan_reads
from engine.worker.slot_layout import Copy, Head, Read, Source, Target

FLOAT = torch.float32


def copy_of(source: Source) -> Copy:
    stacked = torch.empty(1, 1, *source.size)
    return Copy(source, Target(stacked, source.size, stacked.stride()[2:], 0), ())


def matrix(offset: int, rows: int, columns: int, *, of: int | None = None) -> Source:
    """`of`: the columns of the matrix in the file that it is a part of."""
    return Source(FLOAT, (rows, columns), (of or columns, 1), offset)


def carry_out(file: torch.Tensor, reads: Sequence[Read], size_bytes: int) -> torch.Tensor:
    image = torch.full((size_bytes,), 255, dtype=torch.uint8)
    for read in reads:
        image[read.place : read.place + read.end - read.start] = file[read.start : read.end]
    return image


def bytes_of(values: torch.Tensor) -> torch.Tensor:
    """Not a number equals nothing, but its bytes do."""
    return values.contiguous().view(torch.uint8)


@pytest.fixture(autouse=True)
def small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_plan, "SHORTEST_ROW_BYTES", 8)


def test_what_is_needed_as_a_whole_is_read_as_it_lies_there() -> None:
    copies = [copy_of(matrix(0, 4, 8)), copy_of(matrix(32, 8, 4))]
    plan = plan_reads(copies, [], 256)
    assert (plan.reads, plan.size_bytes, plan.copies) == ([Read(0, 256, 0)], 256, copies)


def test_the_columns_of_a_rank_are_read_row_by_row() -> None:
    plan = plan_reads([copy_of(matrix(4, 3, 4, of=8))], [], 96)
    assert plan.reads == [Read(16, 32, 0), Read(48, 64, 16), Read(80, 96, 32)]
    assert plan.copies[0].source == matrix(0, 3, 4)
    assert plan.size_bytes == 48


def test_the_rows_of_a_rank_are_one_read_and_so_are_neighbours() -> None:
    plan = plan_reads([copy_of(matrix(32, 4, 8)), copy_of(matrix(64, 4, 8))], [], 1024)
    assert plan.reads == [Read(128, 384, 0)]


def test_short_rows_are_read_with_what_lies_between_them() -> None:
    plan = plan_reads([copy_of(matrix(0, 3, 1, of=8))], [], 1024)
    assert plan.reads == [Read(0, 68, 0)]
    assert plan.copies[0].source.stride == (8, 1)


def test_an_image_can_be_viewed_as_values_of_any_dtype() -> None:
    half = Source(torch.float16, (1, 3), (3, 1), 0)
    nothing = Source(torch.float16, (0, 3), (8, 1), 64)
    plan = plan_reads([copy_of(half), copy_of(nothing)], [], 1024)
    assert (plan.reads, plan.size_bytes) == ([Read(0, 6, 0)], 8)


def test_neighbours_are_one_read_only_if_they_are_neighbours_in_the_image() -> None:
    """Values of 32 bits begin at a multiple of four bytes, in the image too."""
    half, whole = Source(torch.float16, (1, 3), (3, 1), 1), matrix(2, 1, 2)
    plan = plan_reads([copy_of(half), copy_of(whole)], [], 1024)
    assert plan.reads == [Read(2, 8, 0), Read(8, 16, 8)]


def test_a_head_is_read_too() -> None:
    head = Head("score", matrix(200, 2, 8), Source(FLOAT, (2,), (1,), 216))
    plan = plan_reads([copy_of(matrix(0, 4, 8))], [head], 4096)
    moved = plan.heads[0]
    assert (moved.weight.offset, moved.bias and moved.bias.offset) == (32, 48)


@st.composite
def parts(draw: st.DrawFn) -> list[Source]:
    found, offset = [], 0
    for _ in range(draw(st.integers(1, 6))):
        rows, of = draw(st.integers(1, 5)), draw(st.integers(1, 9))
        dtype = draw(st.sampled_from([torch.float32, torch.float16]))
        columns = draw(st.integers(1, of))
        shift = draw(st.integers(0, of - columns))
        at = -(-offset // dtype.itemsize)
        if draw(st.booleans()):
            found.append(Source(dtype, (rows, columns), (of, 1), at + shift))
        offset = (at + rows * of) * dtype.itemsize
    return found or [Source(FLOAT, (1, 1), (1, 1), 0)]


@given(parts(), st.integers(0, 2**16))
def test_every_part_is_in_the_image_as_it_is_in_the_file(parts: list[Source], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    file = torch.randint(0, 128, (2048,), dtype=torch.uint8, generator=generator)
    plan = plan_reads([copy_of(part) for part in parts], [], file.numel())
    image = carry_out(file, plan.reads, plan.size_bytes)
    for part, copied in zip(parts, plan.copies, strict=True):
        assert torch.equal(bytes_of(copied.source.of(image)), bytes_of(part.of(file)))
