"""Prefix hashes: hashes of blocks of the prefix cache, computed once for prompts that begin alike.

vLLM names each block by a hash of its tokens and of the block before it, in Python and anew for
each request (0.26 to 0.33): that is most of what a turn over a long conversation costs its engine,
once the conversation itself is in the cache. The models of a fan-out, and the turns of a
conversation, have all but the end in common.

Hooks into `get_request_block_hasher`, in the process of vLLM's scheduler.
"""

import threading
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from vllm.v1.core import kv_cache_utils
from vllm.v1.engine import core

from engine.activated_lora.marks import start_of

MIN_TOKENS = 1024
"""For a shorter beginning, the search costs as much as it saves."""

MAX_TOKENS = 2**20
MAX_PROMPTS = 32
"""What is remembered of the last prompts: at most 15 MB, and few enough to look through."""

_NAME = "get_request_block_hasher"

Hashes = list[Any]
HashBlocks = Callable[[Any], Hashes]
MakeHasher = Callable[..., HashBlocks]
Ids = npt.NDArray[np.int64]


def remember_hashes() -> None:
    """Hook into this process, before it makes its engine. A second call changes nothing."""
    make_hasher = getattr(core, _NAME)
    if not hasattr(make_hasher, "adaptry_remembers"):
        setattr(core, _NAME, remembering(make_hasher))


def remembering(make_hasher: MakeHasher) -> MakeHasher:
    def make(block_tokens: int, hash_function: Any, *more: Any, **options: Any) -> HashBlocks:
        hash_blocks = make_hasher(block_tokens, hash_function, *more, **options)
        if any(more) or any(options.values()):  # 0.33, to speculate: later tokens decide too
            return hash_blocks
        return PrefixHashes(block_tokens, hash_blocks).hash_new_blocks

    make.adaptry_remembers = True  # type: ignore[attr-defined]  # marks it as done
    return make


@dataclass(frozen=True, slots=True)
class _Prefix:
    """What a prompt begins with. `keys`: what its blocks are keyed by besides their tokens: the
    first, which has the salt, and all others, which have the reader.
    """

    keys: tuple[Any, Any]
    ids: Ids
    hashes: Hashes


class PrefixHashes:
    """The last prefixes and their hashes. `hash_blocks` is vLLM's own: it continues after the
    hashes that a request has.
    """

    def __init__(
        self, block_tokens: int, hash_blocks: HashBlocks, min_tokens: int = MIN_TOKENS
    ) -> None:
        self._block_tokens = block_tokens
        self._hash_blocks = hash_blocks
        self._min_tokens = max(min_tokens, block_tokens)
        self._known: list[_Prefix] = []  # the last used is at the end
        self._lock = threading.Lock()  # requests arrive in one thread, and grow in another

    def hash_new_blocks(self, request: Any) -> Hashes:
        """The hashes that the request lacks. `request` is vLLM's `Request`."""
        if request.block_hashes or request.num_tokens < self._min_tokens:
            return self._hash_blocks(request)
        found = self._read(request)
        if found is None:
            return self._hash_blocks(request)
        keys, ids = found
        with self._lock:
            known, count = self._find(keys, ids)
        shared = [] if known is None else known.hashes[:count]
        request.block_hashes.extend(shared)
        new = self._hash_blocks(request)
        blocks = len(ids) // self._block_tokens
        if known is None or count < blocks:
            prefix = _Prefix(keys, ids, [*shared, *new][:blocks])
            with self._lock:
                self._remember(prefix, known)
        return new

    def _read(self, request: Any) -> tuple[tuple[Any, Any], Ids] | None:
        """The keys and tokens of the blocks that one reader reads: before an invocation, the base
        model. None if it is short, or if more than that decides its hashes.
        """
        if request.mm_features or request.prompt_embeds is not None:
            return None
        size = self._block_tokens
        begins = start_of(request.lora_request) or request.num_tokens
        blocks = min(begins, request.num_tokens) // size
        if blocks * size < self._min_tokens:
            return None
        first, second, last = (
            kv_cache_utils.generate_block_hash_extra_keys(request, at * size, (at + 1) * size, 0)[0]
            for at in (0, min(1, blocks - 1), blocks - 1)
        )
        if second != last:
            return None
        try:
            ids = array("q", request.all_token_ids[: blocks * size])
        except OverflowError:  # no token's: what vLLM says to it is not changed
            return None
        return (first, second), np.frombuffer(ids, np.int64)

    def _find(self, keys: tuple[Any, Any], ids: Ids) -> tuple[_Prefix | None, int]:
        """The one that has most in common with these, and how many blocks. It was used last."""
        best, most = None, 0
        for known in self._known:
            if known.keys == keys and (common := _count_common(known.ids, ids)) > most:
                best, most = known, common
        count = most // self._block_tokens
        if best is None or not count:
            return None, 0
        self._known = [*(each for each in self._known if each is not best), best]
        return best, count

    def _remember(self, prefix: _Prefix, known: _Prefix | None) -> None:
        """In place of a known one that it continues."""
        is_continued = known is not None and len(known.ids) == _count_common(known.ids, prefix.ids)
        others = [each for each in self._known if not (is_continued and each is known)]
        self._known = [*others, prefix][-MAX_PROMPTS:]
        while sum(len(each.ids) for each in self._known) > MAX_TOKENS:
            self._known.pop(0)


def _count_common(known: Ids, ids: Ids) -> int:
    """How many tokens they have in common from the start."""
    if known[0] != ids[0]:
        return 0
    shorter = min(len(known), len(ids))
    differs = known[:shorter] != ids[:shorter]
    first = int(differs.argmax())
    return first if differs[first] else shorter
