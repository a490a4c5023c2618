"""Invocation tokens: what makes an adapter an activated one (aLoRA), and where it can be served.

PEFT writes the tokens into the configuration; they are part of the prompt, and the adapter has no
effect before their last occurrence.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.base_model import BaseModel
from registry.inspection.supported_modules import experts_of
from registry.inspection.tensors import AdapterTensors, quote_name

INVOCATION_FIELD = "alora_invocation_tokens"
MAX_TOKENS = 1024


def form_problems(config: Mapping[str, Any]) -> Iterator[InvalidAdapter]:
    """What is wrong with the field itself; without it, or with null, the adapter is a plain one."""
    tokens = config.get(INVOCATION_FIELD)
    if tokens is None:
        return
    if not isinstance(tokens, list) or not tokens:
        yield _invalid("is no list of token ids")
    elif any(type(token) is not int or not 0 <= token < 2**31 for token in tokens):
        yield _invalid("has other items than token ids")
    elif len(tokens) > MAX_TOKENS:
        yield _invalid(f"has {len(tokens)} tokens, more than {MAX_TOKENS}")


def invocation_problems(
    config: Mapping[str, Any], tensors: AdapterTensors, base: BaseModel
) -> Iterator[InvalidAdapter]:
    """Why an activated adapter can't be served here; nothing for a plain one."""
    tokens = config.get(INVOCATION_FIELD)
    if tokens is None or any(form_problems(config)):
        return
    if base.served is None:
        yield _unsupported("no engine was asked whether it serves activated LoRA")
    elif (reason := base.served.activated_refusal) is not None:
        yield _unsupported(f"this engine does not serve activated LoRA: {reason}")
    yield from _token_problems(tokens, base)
    for module in (*tensors.pairs, *tensors.heads):
        if _is_not_a_layer(module, tensors):
            detail = f"{quote_name(module)}: activated LoRA is served for linear layers of blocks"
            yield _unsupported(detail)
            return


def invocation_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """For the report of an accepted adapter."""
    tokens = config.get(INVOCATION_FIELD)
    return {} if tokens is None else {"invocation_tokens": tokens}


def _token_problems(tokens: list[int], base: BaseModel) -> Iterator[InvalidAdapter]:
    """An id that no prompt can have would leave the adapter without effect, always."""
    training, largest = base.training, max(tokens)
    size = None if training is None else training.vocabulary_size
    known = None if training is None else training.facts.largest_id
    if size is None and known is None:
        yield _unsupported("neither the base model's vocabulary nor its tokenizer is known here")
    elif size is not None and largest >= size:
        yield _invalid(f"has the id {largest}, the base model has {size} tokens")
    elif known is not None and largest > known:
        yield _invalid(f"has the id {largest}, the base model's tokenizer has ids up to {known}")


def _is_not_a_layer(module: str, tensors: AdapterTensors) -> bool:
    if module in tensors.heads or experts_of(module) is not None:
        return True
    return tensors.pairs[module].is_embedding or module.rpartition(".")[2] == "lm_head"


def _invalid(what: str) -> InvalidAdapter:
    return InvalidAdapter(Defect.INVOCATION_INVALID, f"{INVOCATION_FIELD} {what}")


def _unsupported(why: str) -> InvalidAdapter:
    return InvalidAdapter(Defect.ALORA_UNSUPPORTED, f"{INVOCATION_FIELD}: {why}")
