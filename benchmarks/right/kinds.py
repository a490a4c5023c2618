"""Kinds of adapters that are held against PEFT: ranks, scalings, patterns, targets and experts."""

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
LINEAR = [*ATTENTION, *MLP]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
LARGEST_RANK = 128

Kinds = Mapping[str, LoraConfig]


def _lora(rank: int, **fields: Any) -> LoraConfig:
    usual: dict[str, Any] = {"lora_alpha": 2 * rank, "target_modules": LINEAR}
    return LoraConfig(r=rank, task_type="CAUSAL_LM", **{**usual, **fields})


def _experts(rank: int, **fields: Any) -> LoraConfig:
    usual: dict[str, Any] = {"target_modules": ["q_proj"], "target_parameters": EXPERTS}
    return _lora(rank, **{**usual, **fields})


KINDS: Kinds = {
    "rank-4": _lora(4),
    "rank-8": _lora(8),
    "rank-16": _lora(16),
    "rank-32": _lora(32),
    "rank-64": _lora(64),
    "rank-128": _lora(128),
    "rslora-16": _lora(16, lora_alpha=16, use_rslora=True),
    "rslora-64": _lora(64, lora_alpha=16, use_rslora=True),
    "rank-pattern": _lora(8, rank_pattern={"q_proj": 32, "down_proj": 4}),
    "alpha-pattern": _lora(8, alpha_pattern={"v_proj": 32, "gate_proj": 4}),
    "attention": _lora(16, target_modules=ATTENTION),
    "mlp": _lora(16, target_modules=MLP),
    "one-of-fused": _lora(16, target_modules=["k_proj", "up_proj"]),
}
"""By name. vLLM fuses q, k and v, and gate and up: `one-of-fused` trains one part of each."""

ONE_BY_ONE = "one-by-one"
EXPERT_KINDS: Kinds = {
    "all-linear": _lora(8, target_modules="all-linear"),
    "experts-4": _experts(4),
    "experts-64": _experts(64),
    "experts-rslora": _experts(16, lora_alpha=16, use_rslora=True),
    "experts-patterns": _experts(
        8,
        rank_pattern={"experts.gate_up_proj": 16},
        alpha_pattern={"experts.down_proj": 4, "q_proj": 32},
    ),
    "experts-and-attention": _experts(16, target_modules=ATTENTION),
    f"experts-{ONE_BY_ONE}-8": _experts(8),
    f"experts-{ONE_BY_ONE}-32": _experts(32, target_modules=ATTENTION),
    "attention": _lora(16, target_modules=ATTENTION),
}
"""By name. Those with `ONE_BY_ONE` in it are served with a pair for each matrix of each expert."""
