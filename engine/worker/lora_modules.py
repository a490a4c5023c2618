"""LoRA modules: names and shapes of the modules that this vLLM applies adapters to.

The registry checks adapters against them before vLLM sees them: vLLM itself silently skips modules
that it does not wrap, and accepts matrices that are too small.

`patterns` depends on `PEFTHelper.get_rank_and_scaling`: a vLLM without it, such as 0.26, ignores
ranks and alphas by module.
"""

from collections.abc import Iterator
from typing import Any

from vllm.lora.layers import (
    FusedMoE3DWithLoRA,
    FusedMoEWithLoRA,
    LogitsProcessorWithLoRA,
    VocabParallelEmbeddingWithLoRA,
)
from vllm.lora.peft_helper import PEFTHelper
from vllm.model_executor.layers.linear import LinearBase, QKVParallelLinear

Module = list[Any]
"""Name, whether it is an embedding, out_features, in_features; the last two None if unknown."""

_RULES = ("regex", "substr", "prefix", "suffix")


def describe_modules(tiers: Any) -> dict[str, Any]:
    """Primitives only, for a remote call. `tiers`: the LoRA model manager."""
    return {
        "modules": list(_modules(tiers)),
        "renames": _renames(tiers.model),
        "patterns": hasattr(PEFTHelper, "get_rank_and_scaling"),
    }


def _modules(tiers: Any) -> Iterator[Module]:
    for name, module in tiers.modules.items():
        parts = tiers.packed_modules.get(name)
        if isinstance(module, VocabParallelEmbeddingWithLoRA):
            base = module.base_layer
            yield [name, True, base.embedding_dim, base.org_vocab_size]
        elif isinstance(module, LogitsProcessorWithLoRA):
            yield [name, False, module.vocab_size, module.hidden_size]
        elif isinstance(module, FusedMoEWithLoRA):
            yield from _experts(module, parts)
        elif isinstance(getattr(module, "base_layer", None), LinearBase):
            yield from _linear(name, module.base_layer, parts)


def _linear(name: str, layer: Any, parts: list[str] | None) -> Iterator[Module]:
    """Sizes of the whole layer, not of this rank's share."""
    sizes = _output_sizes(layer)
    if parts is None:
        yield [name, False, sum(sizes), layer.input_size]
        return
    for index, part in enumerate(parts):
        known = len(sizes) == len(parts)
        yield [part, False, sizes[index] if known else None, layer.input_size]


def _output_sizes(layer: Any) -> list[int]:
    if isinstance(layer, QKVParallelLinear):  # its own `output_sizes` count replicated heads
        key_heads = layer.total_num_kv_heads
        value_size = getattr(layer, "v_head_size", layer.head_size)
        heads = layer.total_num_heads * layer.head_size
        return [heads, key_heads * layer.head_size, key_heads * value_size]
    return list(getattr(layer, "output_sizes", None) or [layer.output_size])


def _experts(module: Any, parts: list[str] | None) -> Iterator[Module]:
    """Without shapes: vLLM may have padded them for its kernels."""
    if not isinstance(module, FusedMoE3DWithLoRA) and not module.enable_moe_shared_loras:
        for part in parts or ():
            yield [part, False, None, None]


def _renames(model: Any) -> dict[str, list[list[str]]] | None:
    """None if the rules can't be expressed."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    mapper = getattr(mapper, "get_rename_mapper", lambda: mapper)()
    if getattr(mapper, "orig_to_new_renaming", None):
        return None
    return {rule: _pairs(getattr(mapper, f"orig_to_new_{rule}", None)) for rule in _RULES}


def _pairs(rules: Any) -> list[list[str]]:
    pairs = [(getattr(old, "pattern", old), new) for old, new in (rules or {}).items()]
    return [[old, new] for old, new in pairs if new is not None]
