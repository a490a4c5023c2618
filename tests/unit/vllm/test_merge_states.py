"""The engine's state, of all its ranks: what they hold in different places is in no tier."""

from collections.abc import Sequence
from typing import Any

from engine.ports import EngineState
from engine.types import VersionId
from engine.vllm.backend import merge_states


def rank(gpu: Sequence[int], host: Sequence[int], in_step_loads: int = 0) -> dict[str, Any]:
    sizes = [[lora_id, 100 * lora_id] for lora_id in host]
    return {"gpu": gpu, "host": host, "size_bytes": sizes, "in_step_loads": in_step_loads}


def ids(*numbers: int) -> tuple[VersionId, ...]:
    return tuple(map(VersionId, numbers))


def test_one_rank_is_read_as_it_is() -> None:
    assert merge_states([rank([2], [1, 2], 3)]) == EngineState(
        gpu=ids(2),
        host=ids(1, 2),
        size_bytes={VersionId(1): 100, VersionId(2): 200},
        in_step_loads=3,
    )


def test_ranks_that_agree_add_up_in_the_order_of_the_first() -> None:
    state = merge_states([rank([2], [2, 1]), rank([2], [1, 2], 1)])
    assert (state.gpu, state.host, state.partial) == (ids(2), ids(2, 1), ())
    assert state.size_bytes == {VersionId(1): 200, VersionId(2): 400}
    assert state.in_step_loads == 1


def test_what_another_rank_lacks_is_partial() -> None:
    state = merge_states([rank([1], [1, 2]), rank([], [2])])
    assert (state.gpu, state.host, state.partial) == ((), ids(2), ids(1))
    assert state.size_bytes == {VersionId(2): 400}


def test_what_only_another_rank_holds_is_partial() -> None:
    state = merge_states([rank([], [2]), rank([], [1, 2])])
    assert (state.host, state.partial) == (ids(2), ids(1))


def test_what_is_in_a_slot_of_some_ranks_only_is_partial() -> None:
    state = merge_states([rank([1], [1]), rank([], [1]), rank([1], [1])])
    assert (state.gpu, state.host, state.partial) == ((), (), ids(1))
