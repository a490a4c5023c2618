"""Invocation: found where PEFT finds it, and carried to the engine as it was found."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.lora.variants import calculate_alora_offsets

from engine.activated_lora.invocation import find_start
from engine.activated_lora.marks import (
    NEVER,
    activate_request,
    invocation_mark,
    is_activated,
    start_of,
)

few = st.integers(0, 2)


def by_peft(prompt: list[int], invocation: list[int]) -> int | None:
    config = LoraConfig(alora_invocation_tokens=invocation, task_type="CAUSAL_LM")
    (offset,) = calculate_alora_offsets({"a": config}, "a", torch.tensor([prompt]))
    return None if offset is None else len(prompt) - offset


@given(st.lists(few, min_size=1, max_size=30), st.lists(few, min_size=1, max_size=4))
def test_it_is_found_where_peft_finds_it(prompt: list[int], invocation: list[int]) -> None:
    assert find_start(prompt, invocation) == by_peft(prompt, invocation)


@given(st.lists(st.integers(0, 2**31 - 1)), st.integers(0, 2**31 - 1))
def test_a_token_is_not_found_between_two(prompt: list[int], token: int) -> None:
    naive = [at for at, found in enumerate(prompt) if found == token]
    assert find_start(prompt, [token]) == (naive[-1] if naive else None)


def test_parts_of_neighbours_that_look_like_a_token_are_none() -> None:
    assert find_start([0x01000000, 0x00000002], [0x00000201]) is None
    assert find_start([0x201, 0x01000000, 0x00000002], [0x201]) == 0


def test_a_token_behind_what_looks_like_it_is_found() -> None:
    """Its bytes and the next one's have the token's three more times, between the two."""
    assert find_start([0, 0x01000000], [0]) == 0


@pytest.mark.parametrize("after", range(250, 260))
def test_an_invocation_may_lie_where_the_search_was_divided(after: int) -> None:
    assert find_start([7] * 1000 + [4, 5, 6] + [7] * after, [4, 5, 6]) == 1000


class Prompt(list[int]):
    """`read`: how many of its tokens were looked at."""

    read = 0

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        self.read += len(found)
        return found


def test_an_invocation_at_the_end_of_a_long_prompt_costs_no_pass_over_it() -> None:
    prompt = Prompt([*[7] * 32_000, 4, 5, *[7] * 20])
    assert find_start(prompt, [4, 5]) == 32_000
    assert prompt.read < 300
    assert find_start(prompt, [4, 6]) is None


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 3))
def test_it_is_found_wherever_it_is(before: int, after: int, length: int) -> None:
    invocation = [4] * length
    prompt = [7] * before + invocation + [7] * after
    assert find_start(prompt, invocation) == before


def test_embeddings_have_no_tokens() -> None:
    assert find_start(None, [1]) is None


@dataclass
class Adapter:
    """What vLLM's `LoRARequest` is to a mark."""

    lora_name: str = "a:1-0000"
    lora_int_id: int = 7
    lora_path: str = "/a"
    base_model_name: str | None = None


@dataclass
class CoreRequest:
    prompt_token_ids: list[int] | None
    lora_request: Any


def test_a_request_is_marked_where_its_effect_begins() -> None:
    adapter = Adapter(base_model_name=invocation_mark((4, 5)))
    request = CoreRequest([1, 4, 5, 9], adapter)
    assert is_activated(adapter)
    assert activate_request(request) == 1
    assert start_of(request.lora_request) == 1
    assert (request.lora_request.lora_name, request.lora_request.lora_int_id) == ("a:1-0000", 7)
    assert start_of(adapter) == NEVER, "the same handle serves other prompts"
    assert activate_request(request) == 1, "several completions share one request"


@pytest.mark.parametrize("prompt", [[1, 4, 9, 5], [], None])
def test_without_its_invocation_the_base_model_answers(prompt: list[int] | None) -> None:
    request = CoreRequest(prompt, Adapter(base_model_name=invocation_mark((4, 5))))
    assert activate_request(request) is None
    assert request.lora_request is None


@pytest.mark.parametrize("adapter", [None, Adapter(), Adapter(base_model_name="meta/llama")])
def test_others_act_from_the_start(adapter: Adapter | None) -> None:
    assert start_of(adapter) == 0
    assert not is_activated(adapter)


def test_a_plain_adapter_has_no_mark() -> None:
    assert invocation_mark(None) is None
