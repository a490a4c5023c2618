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

from engine.worker.layer_aliases import find_bypassed

Module = list[Any]
"""Name, whether it is an embedding, out_features, in_features, number of experts.

The last three are None if unknown, or if it is not the parameter of a whole mixture.
"""


def describe_modules(tiers: Any, activated_refusal: str | None) -> dict[str, Any]:
    """Primitives only, for a remote call. `tiers`: the LoRA model manager.

    `activated_refusal`: why activated adapters can't be served; None if they are.
    """
    return {
        "modules": list(_modules(tiers)),
        "head": classification_head(tiers),
        "patterns": hasattr(PEFTHelper, "get_rank_and_scaling"),
        "activated_refusal": activated_refusal,
    }


def module_places(tiers: Any) -> list[str]:
    """The names of all modules, or of their packed parts, that vLLM looks up in an adapter."""
    return [name for name, *_ in _modules(tiers)]


def classification_head(tiers: Any) -> list[Any] | None:
    """Name, most labels and width of the head that an adapter may replace, if there is one.

    vLLM 0.32 refuses adapters with a head for a model that classifies tokens.
    """
    found = getattr(tiers, "_classification_head", None)
    if found is None or not _routes_heads(tiers, found[1]):
        return None
    name, head = found
    return [name, head.max_lora_cls_labels, head.input_size]


def _routes_heads(tiers: Any, head: Any) -> bool:
    by_token = getattr(tiers, "_pooling_task", None) == "token_classify"
    return not by_token or type(head).__name__ == "TokenClassificationHeadWithLoRA"  # 0.33


def _modules(tiers: Any) -> Iterator[Module]:
    bypassed = find_bypassed(tiers.model)
    for name, module in tiers.modules.items():
        if id(module) in bypassed:
            continue
        parts = tiers.packed_modules.get(name)
        if isinstance(module, VocabParallelEmbeddingWithLoRA):
            base = module.base_layer
            yield [name, True, base.embedding_dim, base.org_vocab_size, None]
        elif isinstance(module, LogitsProcessorWithLoRA):
            yield [name, False, module.vocab_size, module.hidden_size, None]
        elif isinstance(module, FusedMoEWithLoRA):
            yield from _experts(name, module, parts, tiers)
        elif isinstance(getattr(module, "base_layer", None), LinearBase):
            yield from _linear(name, module.base_layer, parts)


def _linear(name: str, layer: Any, parts: list[str] | None) -> Iterator[Module]:
    """Sizes of the whole layer, not of this rank's share."""
    sizes = _output_sizes(layer)
    if parts is None:
        yield [name, False, sum(sizes), layer.input_size, None]
        return
    for index, part in enumerate(parts):
        known = len(sizes) == len(parts)
        yield [part, False, sizes[index] if known else None, layer.input_size, None]


def _output_sizes(layer: Any) -> list[int]:
    if isinstance(layer, QKVParallelLinear):  # its own `output_sizes` count replicated heads
        key_heads = layer.total_num_kv_heads
        value_size = getattr(layer, "v_head_size", layer.head_size)
        heads = layer.total_num_heads * layer.head_size
        return [heads, key_heads * layer.head_size, key_heads * value_size]
    return list(getattr(layer, "output_sizes", None) or [layer.output_size])


def _experts(name: str, module: Any, parts: list[str] | None, tiers: Any) -> Iterator[Module]:
    """Without shapes: vLLM may have padded them for its kernels.

    One matrix for each expert, or (`FusedMoE3DWithLoRA`, and with the mixed format both) PEFT's
    two parameters of all experts: `gate_up_proj` as `experts.base_layer`, `down_proj` as `experts`.
    """
    if module.enable_moe_shared_loras:
        return
    if not isinstance(module, FusedMoE3DWithLoRA):
        for part in parts or ():
            yield [part, False, None, None, None]
    if isinstance(module, FusedMoE3DWithLoRA) or takes_both_forms(tiers):
        for parameter in (name, f"{name}.base_layer"):
            yield [parameter, False, None, None, module.global_num_experts]


def takes_both_forms(tiers: Any) -> bool:
    """Whether experts may be matrices of their own or parameters of the mixture."""
    return bool(getattr(tiers, "_enable_mixed_moe_lora_format", False))
