"""Token masks: an adapter for exactly the tokens from its invocation on, however it is cut."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.activated_lora.token_masks import mask_tokens

Row = tuple[int, int, int, int]  # adapter, start, computed, scheduled

rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
    max_size=6,
)


@given(rows)
def test_each_token_by_its_position(rows: list[Row]) -> None:
    adapters = tuple(adapter for adapter, _, _, count in rows for _ in range(count))
    wanted = [
        adapter if position >= start else 0
        for adapter, start, computed, count in rows
        for position in range(computed, computed + count)
    ]
    _, starts, computed, scheduled = (np.array(column) for column in zip(*rows, strict=True))
    assert list(mask_tokens(adapters, list(starts), computed, scheduled)) == wanted


def test_a_step_past_every_invocation_is_left_as_it_is() -> None:
    adapters = (3, 3, 1)
    masked = mask_tokens(adapters, [4, 0], np.array([4, 9]), np.array([2, 1]))
    assert masked is adapters
