"""Token masks: an adapter for exactly the tokens from its invocation on, however it is cut."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.activated_lora.marks import start_of
from engine.activated_lora.token_masks import mask_runner, mask_tokens

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


class CountedRequests(dict[str, Any]):
    """Of a model runner; counts the looks at single ones."""

    looks = 0

    def __getitem__(self, key: str) -> Any:
        self.looks += 1
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)


def adapter(number: int, mark: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(lora_int_id=number, base_model_name=mark)


def run_step(runner_kind: str, adapters: list[SimpleNamespace]) -> tuple[tuple[int, ...], int]:
    """The adapter of each token, of a step with four new tokens of each request; and the looks."""
    ids = [str(number) for number in range(len(adapters))]
    count = np.full(len(ids), 4)
    wanted = tuple(each.lora_int_id for each in adapters for _ in range(4))
    computed = np.zeros(len(ids), dtype=int)

    def make_lora_inputs(*_: object) -> tuple[Any, ...]:
        return (), wanted, list({each.lora_int_id: each for each in adapters}.values())

    if runner_kind == "first":
        requests = CountedRequests(
            (at, SimpleNamespace(lora_request=each)) for at, each in zip(ids, adapters, strict=True)
        )
        batch = SimpleNamespace(
            make_lora_inputs=make_lora_inputs, req_ids=ids, num_computed_tokens_cpu=computed
        )
        mask_runner(SimpleNamespace(input_batch=batch, requests=requests))
        return batch.make_lora_inputs(count, count)[1], requests.looks
    requests = CountedRequests(zip(ids, adapters, strict=True))
    state = SimpleNamespace(make_lora_inputs=make_lora_inputs, lora_requests=requests)
    positions = SimpleNamespace(num_computed_tokens_np=computed)
    mask_runner(SimpleNamespace(lora_state=state, req_states=positions))
    return state.make_lora_inputs(ids, np.arange(len(ids)), count)[1], requests.looks


@pytest.mark.parametrize("kind", ["first", "second"])
def test_a_step_of_plain_adapters_looks_at_no_request(kind: str) -> None:
    tokens, looks = run_step(kind, [adapter(1 + number % 4) for number in range(256)])
    assert len(tokens) == 4 * 256
    assert looks == 0, "each costs a part of a microsecond, in every step"


@pytest.mark.parametrize("kind", ["first", "second"])
def test_one_activated_adapter_is_masked_among_plain_ones(kind: str) -> None:
    activated = adapter(2, "activated from 3")
    assert start_of(activated) == 3
    tokens, looks = run_step(kind, [adapter(1), activated, adapter(3)])
    assert tokens == (1, 1, 1, 1, 0, 0, 0, 2, 3, 3, 3, 3)
    assert looks == 3
