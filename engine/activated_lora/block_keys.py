"""Block keys: a block of the prefix cache that ends before an invocation is the base model's.

Hooks into `generate_block_hash_extra_keys`, in the process of vLLM's scheduler. Later blocks stay
the version's own, under its name, and carry where its effect begins: two prompts may agree in all
tokens up to the end of a block within which one of them is invoked and the other is not.
"""

from collections.abc import Callable
from typing import Any

from vllm.v1.core import block_pool, kv_cache_utils

from engine.activated_lora.marks import start_of

_MODULES = (kv_cache_utils, block_pool)  # the latter names a block's keys in its events
_NAME = "generate_block_hash_extra_keys"

Keys = tuple[tuple[Any, ...] | None, int]
MakeKeys = Callable[[Any, int, int, int], Keys]


def key_blocks() -> None:
    """Hook into this process. A second call changes nothing."""
    for module in _MODULES:
        make_keys = getattr(module, _NAME)
        if not hasattr(make_keys, "adaptry_keyed"):
            setattr(module, _NAME, activated_keys(make_keys))


def is_keyed() -> bool:
    """Whether blocks are keyed by position in this process."""
    return all(hasattr(getattr(module, _NAME), "adaptry_keyed") for module in _MODULES)


def activated_keys(make_keys: MakeKeys) -> MakeKeys:
    """`request` is vLLM's `Request`, which one thread has at a time."""

    def keyed(request: Any, start: int, end: int, multi_modal: int) -> Keys:
        lora_request = request.lora_request
        begins = start_of(lora_request)
        if not begins:
            return make_keys(request, start, end, multi_modal)
        if end > begins:
            keys, following = make_keys(request, start, end, multi_modal)
            return (*(keys or ()), ("adaptry_activated_from", begins)), following
        request.lora_request = None
        try:
            return make_keys(request, start, end, multi_modal)
        finally:
            request.lora_request = lora_request

    keyed.adaptry_keyed = True  # type: ignore[attr-defined]  # marks it as done
    return keyed
