"""Prefix hashes: those that vLLM's own hasher computes, and how often it is asked for them."""

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.engine import core
from vllm.v1.request import Request

from engine.activated_lora.block_keys import key_blocks
from engine.worker import prefix_hashes
from engine.worker.prefix_hashes import MIN_TOKENS, PrefixHashes, remember_hashes, remembering

BLOCK = 4
LONG = list(range(10, 10 + 2 * MIN_TOKENS))
_ids = count()


def adapter(name: str, begins: int | None = None) -> LoRARequest:
    mark = None if begins is None else f"activated from {begins}"
    return LoRARequest(name, 1, f"/{name}", base_model_name=mark)


class Hashing:
    """An engine's hasher; `computed`: of how many blocks."""

    def __init__(self, min_tokens: int = MIN_TOKENS) -> None:
        key_blocks()
        init_none_hash(sha256)
        self.computed = 0
        self.own = get_request_block_hasher(BLOCK, sha256)
        counted = get_request_block_hasher(BLOCK, self._count)
        self.hasher = PrefixHashes(BLOCK, counted, min_tokens).hash_new_blocks

    def _count(self, content: Any) -> bytes:
        self.computed += 1
        digest: bytes = sha256(content)
        return digest

    def request(
        self, prompt: list[int], lora: Any = None, salt: Any = None, **more: Any
    ) -> Request:
        return self._made(self.hasher, prompt, lora, salt, more)

    def check(self, prompt: list[int], lora: Any = None, salt: Any = None, **more: Any) -> int:
        """Of how many blocks the hashes were computed, which are vLLM's."""
        before = self.computed
        found = self.request(prompt, lora, salt, **more).block_hashes
        assert found == self._made(self.own, prompt, lora, salt, more).block_hashes
        return self.computed - before

    def _made(self, hasher: Any, prompt: list[int], lora: Any, salt: Any, more: Any) -> Request:
        return Request(
            f"r{next(_ids)}",
            list(prompt),
            SamplingParams(max_tokens=9),
            None,
            lora_request=lora,
            cache_salt=salt,
            block_hasher=hasher,
            **more,
        )


def test_judges_over_one_conversation_compute_only_their_ends() -> None:
    hashing, blocks = Hashing(), len(LONG) // BLOCK
    assert hashing.check(LONG) == blocks, "the base model's turn"
    for number in range(8):
        judge = adapter(f"judge-{number}", len(LONG))
        assert hashing.check([*LONG, *range(number, number + 8)], judge) == 2
    assert hashing.check([*LONG, 5, 6, 7, 8, 9]) == 1, "the next turn"
    assert hashing.check([*LONG[:-8], *range(8)]) == 2, "another one from its middle"
    assert hashing.check([5, *LONG]) == blocks, "nothing in common"


def test_a_reader_and_a_tenant_share_nothing_with_another() -> None:
    hashing, blocks = Hashing(), len(LONG) // BLOCK
    assert hashing.check(LONG) == blocks
    assert hashing.check(LONG, adapter("plain")) == blocks
    assert hashing.check(LONG, adapter("plain")) == 0
    assert hashing.check(LONG, adapter("other")) == blocks
    assert hashing.check(LONG, salt="tenant~") == blocks
    assert hashing.check(LONG, adapter("judge", len(LONG)), "tenant~") == 0
    assert hashing.check(LONG, adapter("judge", len(LONG) - BLOCK), "tenant~") == 1


def test_what_is_generated_continues_the_hashes() -> None:
    hashing = Hashing()
    for _ in range(2):
        request = hashing.request(LONG)
        before = hashing.computed
        for token in range(2 * BLOCK):
            request.append_output_token_ids(token)
        assert len(request.block_hashes) == len(LONG) // BLOCK + 2
        assert hashing.computed - before == 2
    assert hashing.check([*LONG, *range(2 * BLOCK)]) == 2


def test_embeddings_and_short_prompts_are_left_to_vllm() -> None:
    hashing = Hashing()
    embeds = torch.zeros(len(LONG), 4)
    for _ in range(2):
        assert hashing.check(LONG, prompt_embeds=embeds) == len(LONG) // BLOCK
        assert hashing.check(LONG[: MIN_TOKENS - 1]) == (MIN_TOKENS - 1) // BLOCK
    assert hashing.check([2**63, *LONG]) == len(LONG) // BLOCK
    assert hashing.check([2**63, *LONG]) == len(LONG) // BLOCK


def test_no_more_is_remembered_than_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = len(LONG) // BLOCK
    monkeypatch.setattr(prefix_hashes, "MAX_PROMPTS", 2)
    hashing = Hashing()
    prompts = [[number, *LONG[1:]] for number in range(3)]
    for prompt in (*prompts[:2], prompts[0], prompts[2]):
        hashing.request(prompt)
    assert hashing.check(prompts[0]) == 0, "it was used after the second"
    assert hashing.check(prompts[1]) == blocks
    monkeypatch.setattr(prefix_hashes, "MAX_TOKENS", len(LONG))
    hashing = Hashing()
    for prompt in (prompts[0], prompts[1]):
        assert hashing.check(prompt) == blocks
        assert hashing.check(prompt) == 0
    assert hashing.check(prompts[0]) == blocks


def test_an_image_in_the_middle_is_left_to_vllm() -> None:
    """What it shows is in no token."""
    hashing = Hashing()
    for name in ("cat", "dog"):
        place = SimpleNamespace(offset=len(LONG) // 2, length=BLOCK)
        image = SimpleNamespace(identifier=name, mm_position=place)
        assert hashing.check(LONG, mm_features=[image]) == len(LONG) // BLOCK


def test_a_conversation_that_goes_on_takes_no_place_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefix_hashes, "MAX_PROMPTS", 2)
    hashing, other = Hashing(), [5, *LONG]
    for prompt in (LONG, other, [*LONG, 1, 2, 3, 4]):
        hashing.check(prompt)
    assert hashing.check(other) == 0


few = st.sampled_from([1, 2])
conversations = st.lists(
    st.tuples(
        st.lists(few, min_size=1, max_size=20),
        st.sampled_from([None, "plain", "judge", "guard"]),
        st.integers(1, 20),
        st.sampled_from([None, "a~", "b~"]),
        st.lists(few, max_size=5),
    ),
    min_size=1,
    max_size=20,
)


@given(conversations)
def test_the_hashes_are_vllms_whatever_was_asked_before(conversations: list[Any]) -> None:
    hashing = Hashing(min_tokens=0)
    for prompt, name, begins, salt, generated in conversations:
        activated = begins if name in ("judge", "guard") else None
        lora = None if name is None else adapter(name, activated)
        hashing.check(prompt, lora, salt)
        request = hashing.request(prompt, lora, salt)
        for token in generated:
            request.append_output_token_ids(token)
        whole = hashing._made(hashing.own, [*prompt, *generated], lora, salt, {})
        assert request.block_hashes == whole.block_hashes


def test_the_engine_is_made_with_it_unless_later_tokens_decide_too() -> None:
    """Speculation by some methods of 0.33: a block's hash has tokens that follow it."""
    remember_hashes()
    hooked: Any = core.get_request_block_hasher
    remember_hashes()
    assert core.get_request_block_hasher is hooked
    assert hooked(BLOCK, sha256).__self__.__class__ is PrefixHashes
    own = object()
    make = remembering(lambda *inputs, **options: own)  # type: ignore[arg-type]  # any
    assert make(BLOCK, sha256, 1) is own
    assert make(BLOCK, sha256, num_hash_lookahead_tokens=1) is own
    assert make(BLOCK, sha256, 0) is not own
