"""Module names: where vLLM would apply each tensor of an adapter, by vLLM's own rules.

A tensor's name goes the way that it goes in a load: `parse_fine_tuned_lora_name` with the model's
mapper, then `_get_lora_layer_weights` of the LoRA manager for every module that is wrapped. Nothing
of these rules is repeated here: they differ between models (a mapper), runners (a pooling model
knows names without `model.`), arguments (`--lora-target-modules`) and versions (0.33 knows
text-only names on multimodal models).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from vllm.lora.lora_model import LoRAModel
from vllm.lora.utils import is_base_embedding_weights, parse_fine_tuned_lora_name

from engine.worker.lora_modules import classification_head, module_places


def place_tensors(tiers: Any, tensors: Sequence[str]) -> list[str | None]:
    """The name of the module, or of its packed part, for each tensor; None if there is none.

    `tiers`: the LoRA model manager.
    """
    parsed = [_parse(tiers.model, tensor) for tensor in tensors]
    names: set[str] = {name for name in parsed if name is not None}
    places = {found: place for place, found in _lookups(tiers, names)}
    return [None if name is None else places.get(name) for name in parsed]


def _lookups(tiers: Any, names: set[str]) -> Iterator[tuple[str, str]]:
    """A module's name, and the one of `names` that vLLM would find for it."""
    adapter = LoRAModel(1, 1, {name: _Named(name) for name in names})
    for place in module_places(tiers):
        found = tiers._get_lora_layer_weights(adapter, place)
        if found is not None:
            yield place, found.name
    head = classification_head(tiers)
    if head is not None:
        adapter.modules_to_save = adapter.loras
        found = tiers._get_module_to_save_weights(adapter, head[0])
        if found is not None:
            yield head[0], found.name


class _Named:
    """In place of the weights of a module."""

    def __init__(self, name: str) -> None:
        self.name = name


def _parse(model: Any, tensor: str) -> str | None:
    """None if vLLM would refuse it or leave it out."""
    if is_base_embedding_weights(tensor):
        return None
    skipped = getattr(model, "lora_skip_prefixes", None)
    if skipped and LoRAModel._should_skip_module(tensor, skipped):
        return None
    try:
        name, _ = parse_fine_tuned_lora_name(tensor, _mapper(model))
    except ValueError:
        return None
    return str(name)


def _mapper(model: Any) -> Any:
    """As `_load_adapter` takes it: its renames alone. `get_unstacked_mapper` until 0.26."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    if mapper is None:
        return None
    for method in ("get_rename_mapper", "get_unstacked_mapper"):
        if hasattr(mapper, method):
            return getattr(mapper, method)()
    return mapper
