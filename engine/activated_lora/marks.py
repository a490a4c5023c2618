"""Marks on vLLM's `LoRARequest`: first the invocation to look for, then where it was found.

They travel in `base_model_name`, the one field of a request for an adapter that vLLM passes on to
its scheduler and its workers and reads nowhere on the way. So where an effect begins is decided
once, where the prompt's tokens are known, and both hooks see the same.
"""

from collections.abc import Sequence
from typing import Any

from engine.activated_lora.invocation import find_start

_INVOCATION, _START = "invocation ", "activated from "
NEVER = 2**62
"""Where the effect of an adapter begins whose invocation was not searched yet."""


def invocation_mark(invocation: Sequence[int] | None) -> str | None:
    """For `base_model_name`; None for a plain adapter."""
    return None if not invocation else _INVOCATION + ",".join(map(str, invocation))


def start_of(lora_request: Any) -> int:
    """The position from which the adapter has an effect: 0 for a plain one, and for none."""
    mark = None if lora_request is None else lora_request.base_model_name
    if not mark:
        return 0
    if mark.startswith(_START):
        return int(mark[len(_START) :])
    return NEVER if mark.startswith(_INVOCATION) else 0


def is_activated(lora_request: Any) -> bool:
    mark: str | None = None if lora_request is None else lora_request.base_model_name
    return mark is not None and mark.startswith((_INVOCATION, _START))


def activate_request(request: Any) -> int | None:
    """Mark where the effect begins on a request (`EngineCoreRequest`) for an activated adapter.

    None where its prompt has no invocation: then it becomes one for the base model, which alone
    answers. A request is marked once: copies of it, for several completions, have one adapter.
    """
    adapter = request.lora_request
    if adapter.base_model_name.startswith(_START):
        return start_of(adapter)
    sought = adapter.base_model_name.removeprefix(_INVOCATION)
    start = find_start(request.prompt_token_ids, [int(token) for token in sought.split(",")])
    request.lora_request = None if start is None else _mark(adapter, f"{_START}{start}")
    return start


def _mark(adapter: Any, mark: str) -> Any:
    """A copy: the same request for an adapter may be used for several prompts."""
    name, number, path = adapter.lora_name, adapter.lora_int_id, adapter.lora_path
    return type(adapter)(name, number, path, base_model_name=mark)
