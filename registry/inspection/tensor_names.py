"""Tensor names: PEFT's own, the forms of other tools that mean the same, and wrappers in them."""

import re
from collections.abc import Collection, Mapping

MAX_TENSORS = 50_000  # to be renamed: a header is held in memory several times for it

PREFIX = "base_model.model."
LINEAR = {".lora_A.weight": "A", ".lora_B.weight": "B"}
EMBEDDING = {".lora_embedding_A": "A", ".lora_embedding_B": "B"}

# PEFT's `state_dict()` has the adapter's name in these, `save_pretrained` takes it out
_WITH_NAME = {
    ".lora_A.default.weight": ".lora_A.weight",
    ".lora_B.default.weight": ".lora_B.weight",
    ".lora_embedding_A.default": ".lora_embedding_A",
    ".lora_embedding_B.default": ".lora_embedding_B",
}
_NAMED = re.compile(r"\.lora_(?:embedding_)?[AB]\.([^.]+)(?:\.weight)?$")

# (part of the name, what puts it there, how to get rid of it)
_WRAPPERS = (
    ("_orig_mod.", "torch.compile", "save from `model._orig_mod`"),
    ("_fsdp_wrapped_module.", "FSDP", "save from a full state dict of the unwrapped model"),
    ("_checkpoint_wrapped_module.", "activation checkpointing", "save the unwrapped model"),
    ("_forward_module.", "Lightning or DeepSpeed", "save the unwrapped model"),
)
# (beginnings of names, which tool saves them); `transformer.` alone is also the text model of GPT-2
_DIFFUSION = (
    (("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_"), "kohya's scripts"),
    (("unet.", "text_encoder.", "text_encoder_2.", "text_encoder_3."), "diffusers"),
    (("transformer.transformer_blocks.", "transformer.single_transformer_blocks."), "diffusers"),
    (("diffusion_model.",), "ComfyUI or a trainer of diffusion models"),
)
_DDP = ("module.base_model.", f"{PREFIX}module.")


def normalise(names: Collection[str]) -> dict[str, str] | None:
    """PEFT's name of each tensor, or None if nothing changes or two would become one.

    The weights stay what they are: `.default.` is taken out, and a missing prefix is added.
    """
    if len(names) > MAX_TENSORS or all(name == _peft_name(name) for name in names):
        return None
    renamed = {name: _peft_name(name) for name in names}
    return renamed if len(set(renamed.values())) == len(renamed) else None


def examples(renamed: Mapping[str, str]) -> tuple[str, str]:
    """The first name that changes, and what it becomes."""
    return next((old, new) for old, new in renamed.items() if old != new)


def wrapper_in(name: str) -> tuple[str, str] | None:
    """(what wrapped the model when it was saved, how to save it without), if the name tells."""
    for part, what, how in _WRAPPERS:
        if part in name:
            return f"{what} (`{part}`)", f"{how}, or take `{part}` out of the names"
    if name.startswith(_DDP):
        return "DDP (`module.`)", "save from `model.module`, or take `module.` out of the names"
    return None


def diffusion_tool(name: str) -> str | None:
    """Which tool saved this tensor in an adapter of a diffusion model, if the name tells."""
    return next((tool for starts, tool in _DIFFUSION if name.startswith(starts)), None)


def adapter_name_in(name: str) -> str | None:
    """The adapter's name if it is in the tensor's, where PEFT leaves it out."""
    found = _NAMED.search(name)
    return None if found is None or found[1] == "weight" else found[1]


def _peft_name(name: str) -> str:
    for old, new in _WITH_NAME.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    is_half = name.endswith((*LINEAR, *EMBEDDING))
    if not is_half or name.startswith(PREFIX) or wrapper_in(name) or diffusion_tool(name):
        return name
    return PREFIX + name
