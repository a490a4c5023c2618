"""Layer aliases: further references to a layer that an adapter applies to, past its wrapper.

A mixture of experts may hold its router's layer, which PEFT's `all-linear` trains. vLLM means to
give such an alias the wrapper too, but sets it on the wrapper of the mixture (0.32, 0.33), where
nothing reads it: the router would answer without the adapter, and no error would say so.

Some holders read the layer's weight and never call it. There a wrapper changes nothing, and such
layers count as not served.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from vllm.model_executor.layers.linear import LinearBase


def rewire_aliases(model: Any, wrappers: Iterable[Any]) -> None:
    """Let every module that holds a wrapped linear layer hold its wrapper."""
    by_layer: dict[int, Any] = {}
    for wrapper in wrappers:
        layer = getattr(wrapper, "base_layer", None)
        if isinstance(layer, LinearBase):
            by_layer.setdefault(id(layer), wrapper)  # the first is where adapters name it
    for holder in list(model.modules()):
        for name, held in list(holder._modules.items()):  # `named_children` leaves out second names
            wrapper = by_layer.get(id(held))
            if wrapper is not None and getattr(holder, "base_layer", None) is not held:
                setattr(holder, name, wrapper)


def find_bypassed(model: Any) -> set[int]:
    """The ids of wrapped layers, and of their wrappers, without which the model computes."""
    return {
        id(each)
        for holder in model.modules()
        for layer in _read_by(holder)
        for each in (layer, getattr(layer, "base_layer", None))
        if each is not None
    }


def _read_by(holder: Any) -> Iterator[Any]:
    """Layers of which the holder reads the weight alone (0.32).

    Fused shared experts, of ROCm: both gates' weights are one matrix, made at the first step.
    Latent attention: a decode takes what was made of the weight when the model was loaded. A
    prefill calls the layer that its implementation, which is no module, got before the wrapper.
    """
    if getattr(holder, "_fse_fuse_gate", False):
        yield from (holder.gate, holder.shared_expert_gate)
    if hasattr(holder, "kv_lora_rank") and hasattr(holder, "impl"):
        yield holder.kv_b_proj
