"""Families of base models that are compared: a small model of each, and the adapters for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import OlmoeConfig, Qwen3MoeConfig

from benchmarks.common.workload import Shape, write_base_model
from benchmarks.right.kinds import EXPERT_KINDS, KINDS, Kinds

LLAMA = Shape("trained", 512, 1376, 6, 8, 4, 64, 264, "float32")
MIXTURE = Shape("trained", 256, 128, 4, 4, 2, 64, 264, "float32")
"""A head size of 64: FlashAttention has kernels for few others."""
EXPERTS, CHOSEN = 8, 2


@dataclass(frozen=True)
class Family:
    """`write`: configuration and tokenizer of the base model. `arguments`: more of the server.

    `reference_dtype`: None for that of the server.
    """

    write: Callable[[Path], Path]
    kinds: Kinds
    arguments: tuple[str, ...] = ()
    reference_dtype: str | None = None


def _write_llama(parent: Path) -> Path:
    return write_base_model(parent, LLAMA)


def _write_mixture(parent: Path, make: Any, architecture: str, **fields: Any) -> Path:
    folder = write_base_model(parent, MIXTURE)
    config = make(
        architectures=[architecture],
        vocab_size=MIXTURE.vocabulary,
        hidden_size=MIXTURE.hidden,
        num_hidden_layers=MIXTURE.layers,
        num_attention_heads=MIXTURE.heads,
        num_key_value_heads=MIXTURE.kv_heads,
        max_position_embeddings=8192,
        num_experts=EXPERTS,
        num_experts_per_tok=CHOSEN,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        **fields,
    )
    config.save_pretrained(folder)
    return folder


def _write_qwen3_moe(parent: Path) -> Path:
    sizes = {"head_dim": MIXTURE.head_size, "moe_intermediate_size": MIXTURE.intermediate}
    return _write_mixture(
        parent, Qwen3MoeConfig, "Qwen3MoeForCausalLM", norm_topk_prob=True, **sizes
    )


def _write_olmoe(parent: Path) -> Path:
    sizes = {"intermediate_size": MIXTURE.intermediate}
    return _write_mixture(parent, OlmoeConfig, "OlmoeForCausalLM", **sizes)


def _mixture(write: Callable[[Path], Path]) -> Family:
    """PEFT adds the pairs of experts to their weights, which half precision would round again."""
    return Family(write, EXPERT_KINDS, ("--enable-mixed-moe-lora-format",), "float32")


MIXTURES: Mapping[str, Family] = {
    "qwen3-moe": _mixture(_write_qwen3_moe),
    "olmoe": _mixture(_write_olmoe),
}
FAMILIES: Mapping[str, Family] = {"llama": Family(_write_llama, KINDS), **MIXTURES}
