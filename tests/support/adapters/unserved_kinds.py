"""Kinds of adapters that are refused for their configuration, because vLLM does not serve them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft.tuners.lora import ArrowConfig, create_arrow_model
from peft.tuners.lora import config as peft_lora

from tests.support.adapters.peft_kinds import Edit, Kind, configured, each, load_base, lora

QUERIES = ["q_proj"]  # alone, so that an engine that wraps nothing else could serve it


def _queries(*edits: Edit, **fields: Any) -> Callable[[], Kind]:
    return lambda: lora(*edits, target_modules=QUERIES, **fields)


def _block_diagonal() -> Kind:
    blocks = peft_lora.BdLoraConfig(
        target_modules_bd_a=QUERIES, target_modules_bd_b=["v_proj"], nblocks=2
    )
    return lora(use_bdlora=blocks, target_modules=QUERIES)


@dataclass(frozen=True)
class _Router(Kind):
    """Arrow: it has no pairs of its own, and computes with those of the adapters beside it."""

    def save(self, base_folder: Path, folder: Path) -> Path:
        turned = each(lambda name, tensor: -tensor if "layers.1" in name else tensor)
        kinds = {"one": lora(target_modules=QUERIES), "two": lora(turned, target_modules=QUERIES)}
        routed = [str(kind.save(base_folder, folder / name)) for name, kind in kinds.items()]
        model = create_arrow_model(load_base(base_folder), routed, ArrowConfig(top_k=2))
        model.save_pretrained(folder)
        return folder / "arrow_router"


UNSERVED: Mapping[str, tuple[str, Callable[[], Kind]]] = {
    "DoRA": ("dora_unsupported", _queries(use_dora=True)),
    "all biases": ("bias_unsupported", _queries(bias="all")),
    "biases of its modules": ("bias_unsupported", _queries(bias="lora_only")),
    "a bias in the pair": ("bias_unsupported", _queries(lora_bias=True)),
    "whole norms": ("modules_to_save_unsupported", _queries(modules_to_save=["input_layernorm"])),
    "a whole embedding": (
        "modules_to_save_unsupported",
        _queries(modules_to_save=["embed_tokens"]),
    ),
    "single tokens": ("trainable_tokens_unsupported", _queries(trainable_token_indices=[74, 75])),
    "repeated layers": (
        "layer_replication_unsupported",
        _queries(layer_replication=[(0, 1), (0, 1)]),
    ),
    "PiSSA": ("init_lora_weights_unsupported", _queries(init_lora_weights="pissa")),
    "fast PiSSA": ("init_lora_weights_unsupported", _queries(init_lora_weights="pissa_niter_4")),
    "OLoRA": ("init_lora_weights_unsupported", _queries(init_lora_weights="olora")),
    "LoftQ": ("init_lora_weights_unsupported", _queries(configured(init_lora_weights="loftq"))),
    "CorDA": ("init_lora_weights_unsupported", _queries(configured(init_lora_weights="corda"))),
    "QALoRA": ("qalora_unsupported", _queries(use_qalora=True, qalora_group_size=16)),
    "block-diagonal LoRA": ("bdlora_unsupported", _block_diagonal),
    "a router between adapters": ("arrow_unsupported", lambda: _Router(lora().config)),
    "KaSA": ("kasa_unsupported", _queries(kasa_config=peft_lora.KasaConfig())),
    "MonteCLoRA": (
        "monteclora_unsupported",
        _queries(monteclora_config=peft_lora.MontecloraConfig()),
    ),
    "VeLoRA": ("velora_unsupported", _queries(velora_config=peft_lora.VeloraConfig())),
}
