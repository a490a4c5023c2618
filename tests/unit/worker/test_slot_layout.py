"""Slot layout: which slots a kernel may fill, and values scaled once and in vLLM's order."""

from collections.abc import Sequence

import pytest
import torch

from engine.worker.slot_layout import Copy, SlotLayout, Source, Target

SLOTS, ROWS, COLUMNS = 3, 4, 8
SOURCE = Source(torch.float32, (2, 8), (8, 1), 0)
OTHER = Source(torch.float32, (2, 8), (8, 1), 16)


def stacked(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.full((SLOTS, ROWS, COLUMNS), 7.0, dtype=dtype)


def part(of: torch.Tensor, rows: int, first: int = 0) -> Target:
    return Target(of, (rows, COLUMNS), (COLUMNS, 1), first * COLUMNS)


def layout(copies: Sequence[Copy], zeroed: Sequence[Target]) -> SlotLayout:
    return SlotLayout(128, 2, copies, zeroed)


def filled(of: SlotLayout, slot: int, *values: float) -> None:
    image = torch.tensor(values).repeat_interleave(16).view(torch.uint8)
    of.create_views()
    sources = of.sources(image)
    sources.scale()
    of.write(slot, sources)


def test_matrices_in_corners_of_whole_slots_are_left_to_the_kernel() -> None:
    first, second = stacked(), stacked()
    zeroed = [part(first, ROWS), part(second, ROWS)]
    pieces = layout([Copy(SOURCE, part(first, 2), (3.0,))], zeroed).pieces()
    assert pieces is not None
    assert [(piece.rows, piece.scale) for piece in pieces] == [(2, 3.0), (0, 1.0)]


def test_all_else_is_copied_piece_by_piece() -> None:
    one = stacked()
    whole, corner = [part(one, ROWS)], part(one, 2)
    apart: dict[str, SlotLayout] = {
        "two matrices": layout([Copy(SOURCE, corner, ()), Copy(OTHER, part(one, 2), ())], whole),
        "two factors": layout([Copy(SOURCE, corner, (2.0, 3.0))], whole),
        "never zeroed": layout([Copy(SOURCE, corner, ())], []),
        "zeroed in part": layout([Copy(SOURCE, corner, ())], [part(one, 3)]),
    }
    assert {name for name, each in apart.items() if each.pieces() is not None} == set()


def test_a_matrix_that_is_copied_twice_is_scaled_once() -> None:
    first, second = stacked(), stacked()
    copies = [Copy(SOURCE, part(each, 2), (3.0,)) for each in (first, second)]
    filled(layout(copies, [part(first, ROWS), part(second, ROWS)]), 1, 2.0)
    for each in (first, second):
        assert each[1].tolist() == [[6.0] * COLUMNS] * 2 + [[0.0] * COLUMNS] * 2
        assert (each[0] == 7).all()
        assert (each[2] == 7).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_factors_are_multiplied_in_their_order(dtype: torch.dtype) -> None:
    """Each is rounded: values that change dtype are scaled in the slot, others before."""
    one, factors = stacked(dtype), (1 / 3, 3e38, 1e-38)
    filled(layout([Copy(SOURCE, part(one, 2), factors)], [part(one, ROWS)]), 0, 1.1)
    expected = torch.tensor([1.1], dtype=torch.float32).to(dtype)
    for factor in factors:
        expected.mul_(factor)
    assert torch.isfinite(expected).all()
    assert (one[0, :2] == expected).all()


def test_what_fills_its_slot_needs_no_zeros() -> None:
    one = stacked()
    whole = Source(torch.float32, (ROWS, COLUMNS), (COLUMNS, 1), 0)
    full = layout([Copy(whole, part(one, ROWS), ())], [part(one, ROWS)])
    full.create_views()
    assert all(views.zeroed == [] for views in full._slots)
    filled(full, 2, 1.0, 2.0)
    assert one[2].tolist() == [[1.0] * COLUMNS] * 2 + [[2.0] * COLUMNS] * 2
