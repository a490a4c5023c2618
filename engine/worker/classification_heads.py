"""Classification heads in slots: an adapter's own, or the base model's for one without.

A slot keeps the head of its last adapter until the next one replaces it or resets it, which is why
every adapter that enters a slot does one or the other. vLLM has such heads since 0.31.
"""

from typing import Any

import torch
from vllm.lora import lora_weights

from engine.worker.slot_layout import SlotLayout, Source


def read_heads(layout: SlotLayout, image: torch.Tensor) -> dict[str, Any]:
    """vLLM's `modules_to_save` of an adapter. `image`: (bytes,) uint8, its data section.

    Copies, of a few rows each: the block of the image may have another owner before a device has
    read them.
    """
    return {
        head.name: lora_weights.LoRAFullModuleWeights(
            module_name=head.name,
            weight=_copy(head.weight, image),
            bias=None if head.bias is None else _copy(head.bias, image),
        )
        for head in layout.heads
    }


def _copy(source: Source, image: torch.Tensor) -> torch.Tensor:
    copied = source.of(image).clone()
    return copied.pin_memory() if torch.cuda.is_available() else copied


def find_heads(tiers: Any) -> list[tuple[str, Any]]:
    """The heads that adapters may replace, by name. `tiers`: the LoRA model manager."""
    modules = tiers.modules.items()
    return [(name, module) for name, module in modules if hasattr(module, "reset_module_to_save")]


def write_heads(tiers: Any, heads: list[tuple[str, Any]], slot: int, lora: Any) -> None:
    """As vLLM's `activate_adapter` does."""
    for name, module in heads:
        whole = tiers._get_module_to_save_weights(lora, name)
        if whole is None:
            module.reset_module_to_save(slot)
        else:
            module.set_module_to_save(slot, whole.weight, whole.bias)
