"""Layer aliases: further references to a layer that an adapter applies to, past its wrapper.

A mixture of experts may hold its router's layer, which PEFT's `all-linear` trains. vLLM means to
give such an alias the wrapper too, but sets it on the wrapper of the mixture (0.32, 0.33), where
nothing reads it: the router would answer without the adapter, and nobody would say so.
"""

from collections.abc import Iterable
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
