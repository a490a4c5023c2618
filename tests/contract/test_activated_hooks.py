"""Hooks for activated adapters: what they rely on in the installed vLLM, without an engine.

Both model runners' batches and the hasher of blocks are vLLM's own objects. These fail when an
internal changes its meaning; that one is gone, `test_vllm_internals` says.
"""

from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.utils.hashing import sha256
from vllm.v1.core import block_pool
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.request import Request
from vllm.v1.worker.gpu.lora_utils import LoraState

from engine.activated_lora.block_keys import is_keyed, key_blocks
from engine.activated_lora.invocation import find_start
from engine.activated_lora.marks import activate_request, invocation_mark, start_of
from engine.activated_lora.token_masks import is_maskable, mask_runner
from engine.worker.prefix_hashes import PrefixHashes

BLOCK = 4
INVOCATION = (1, 2)
_ids = count()


@pytest.fixture(scope="module", autouse=True)
def hasher() -> Any:
    key_blocks()
    key_blocks()
    assert is_keyed()
    init_none_hash(sha256)
    own = get_request_block_hasher(BLOCK, sha256)
    return PrefixHashes(BLOCK, own, min_tokens=0).hash_new_blocks


def adapter(name: str, number: int, *, activated: bool) -> LoRARequest:
    mark = invocation_mark(INVOCATION) if activated else None
    return LoRARequest(name, number, f"/{name}", base_model_name=mark)


ADAPTERS = {
    "base": None,
    "judge": adapter("judge:1-00", 1, activated=True),
    "guard": adapter("guard:1-00", 2, activated=True),
    "plain": adapter("plain:1-00", 3, activated=False),
}


def engine_request(
    hasher: Any, model: str, prompt: list[int], generated: list[int], salt: str | None
) -> tuple[Request, int | None]:
    """As it is made in the engine, after its start was marked; and where its effect begins."""
    sent = SimpleNamespace(prompt_token_ids=prompt, lora_request=ADAPTERS[model])
    start = activate_request(sent) if model in ("judge", "guard") else 0
    if model == "base":
        start = None
    request = Request(
        f"r{next(_ids)}",
        prompt,
        SamplingParams(max_tokens=9),
        None,
        lora_request=sent.lora_request,
        cache_salt=salt,
        block_hasher=hasher,
    )
    for token in generated:
        request.append_output_token_ids(token)
    return request, start


def contents(model: str, start: int | None, tokens: list[int], end: int, salt: Any) -> object:
    """What decides the keys and values of a block: all tokens up to its end, and who read them."""
    is_base = start is None or end <= start
    reader: object = None if is_base else (model, start)
    return salt, tuple(tokens[:end]), reader


tokens = st.lists(st.sampled_from([1, 2, 9]), min_size=1, max_size=18)
requests = st.lists(
    st.tuples(
        st.sampled_from(sorted(ADAPTERS)),
        tokens,
        st.lists(st.sampled_from([1, 2, 9]), max_size=6),
        st.sampled_from([None, "tenant~"]),
    ),
    min_size=2,
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests)
def test_blocks_are_shared_if_and_only_if_their_contents_are_the_same(
    hasher: Any, requests: list[tuple[str, list[int], list[int], str | None]]
) -> None:
    """By conversations that share beginnings, of several adapters and tenants."""
    found: dict[object, Any] = {}
    for model, prompt, generated, salt in requests:
        request, start = engine_request(hasher, model, prompt, generated, salt)
        everything = prompt + generated
        assert len(request.block_hashes) == len(everything) // BLOCK
        for number, digest in enumerate(request.block_hashes, start=1):
            what = contents(model, start, everything, number * BLOCK, salt)
            assert found.setdefault(what, digest) == digest
    assert len(set(found.values())) == len(found), "two contents, one key"


def test_up_to_an_invocation_blocks_are_the_base_models_and_from_it_the_adapters(
    hasher: Any,
) -> None:
    prompt = [*[9] * 2 * BLOCK, *INVOCATION, *[9] * (BLOCK - 2), *[9] * BLOCK]
    invoked, start = engine_request(hasher, "judge", prompt, [], None)
    base, _ = engine_request(hasher, "base", prompt, [], None)
    assert start == 2 * BLOCK
    assert invoked.lora_request is not None, "it is still the adapter's"
    pairs = zip(invoked.block_hashes, base.block_hashes, strict=True)
    assert [ours == theirs for ours, theirs in pairs] == [True, True, False, False]


def test_a_process_is_hooked_once_and_where_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    hooked = block_pool.generate_block_hash_extra_keys
    key_blocks()
    assert block_pool.generate_block_hash_extra_keys is hooked
    monkeypatch.setattr(block_pool, "generate_block_hash_extra_keys", lambda *_: (None, 0))
    assert not is_keyed()


def test_an_invocation_that_ends_in_the_next_block_is_another_one(hasher: Any) -> None:
    """Both have the same tokens up to the block's end, but read it otherwise."""
    block = [1, 2, 9, 1]
    invoked, first = engine_request(hasher, "judge", [*block, 9, 9, 9, 9], [], None)
    again, second = engine_request(hasher, "judge", [*block, 2, 9, 9, 9], [], None)
    assert (first, second) == (0, 3)
    assert invoked.block_hashes[0] != again.block_hashes[0]


def wanted(model: str, prompt: list[int], computed: int, scheduled: int) -> list[int]:
    request = ADAPTERS[model]
    if request is None:
        return [0] * scheduled
    start = find_start(prompt, INVOCATION) if request.base_model_name else 0
    return [
        request.lora_int_id if start is not None and position >= start else 0
        for position in range(computed, computed + scheduled)
    ]


batches = st.lists(
    st.tuples(st.sampled_from(sorted(ADAPTERS)), tokens, st.integers(0, 12), st.integers(1, 9)),
    min_size=1,
    max_size=5,
)


def marked(model: str, prompt: list[int]) -> LoRARequest | None:
    sent = SimpleNamespace(prompt_token_ids=prompt, lora_request=ADAPTERS[model])
    if model in ("judge", "guard"):
        activate_request(sent)
    found: LoRARequest | None = sent.lora_request
    return found


@given(batches)
def test_the_newer_runners_batch_is_masked(batch: list[tuple[str, list[int], int, int]]) -> None:
    state, computed = LoraState(len(batch)), np.zeros(len(batch), dtype=np.int32)
    runner = SimpleNamespace(
        lora_state=state, req_states=SimpleNamespace(num_computed_tokens_np=computed)
    )
    assert is_maskable(runner)
    mask_runner(runner)
    order = list(reversed(range(len(batch))))  # a batch has an order of its own
    for row, (model, prompt, done, _) in enumerate(batch):
        state.add_request(f"r{row}", row, marked(model, prompt))
        computed[row] = done
    scheduled = np.array([batch[row][3] for row in order])
    rows, found, active = state.make_lora_inputs(
        [f"r{row}" for row in order], np.array(order), scheduled
    )
    expected = [
        each
        for row in order
        for each in wanted(batch[row][0], batch[row][1], batch[row][2], batch[row][3])
    ]
    assert list(found) == expected
    assert len(rows) == len(batch)
    assert {each.lora_int_id for each in active} >= set(found) - {0}


@given(batches)
def test_the_older_runners_batch_is_masked(batch: list[tuple[str, list[int], int, int]]) -> None:
    from vllm.v1.worker.gpu_input_batch import InputBatch

    lora = [marked(model, prompt) for model, prompt, _, _ in batch]
    ids = [f"r{row}" for row in range(len(batch))]
    inputs: Any = InputBatch.__new__(InputBatch)
    inputs._req_ids = ids
    inputs.req_id_to_index = {each: row for row, each in enumerate(ids)}
    inputs.request_lora_mapping = np.array([0 if r is None else r.lora_int_id for r in lora])
    inputs.lora_id_to_lora_request = {r.lora_int_id: r for r in lora if r is not None}
    inputs.num_computed_tokens_cpu = np.array([done for _, _, done, _ in batch] + [99])
    requests = {each: SimpleNamespace(lora_request=r) for each, r in zip(ids, lora, strict=True)}
    runner = SimpleNamespace(input_batch=inputs, requests=requests)
    assert is_maskable(runner)
    mask_runner(runner)
    scheduled = np.array([count for _, _, _, count in batch])
    rows, found, active = inputs.make_lora_inputs(scheduled, np.ones_like(scheduled))
    expected = [each for model, prompt, done, n in batch for each in wanted(model, prompt, done, n)]
    assert list(found) == expected
    assert len(rows) == len(batch)
    assert {each.lora_int_id for each in active} >= set(found) - {0}


def test_the_mark_survives_the_way_to_the_engine() -> None:
    """It is sent as msgpack."""
    import msgspec

    sent = marked("judge", [9, 9, 1, 2])
    received = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=LoRARequest)
    assert start_of(received) == start_of(sent) == 2
