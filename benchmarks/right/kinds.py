"""Kinds of adapters that are held against PEFT: ranks, scalings, patterns and targets."""

from typing import Any

from peft import LoraConfig

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
LINEAR = [*ATTENTION, *MLP]
LARGEST_RANK = 128


def _lora(rank: int, **fields: Any) -> LoraConfig:
    usual: dict[str, Any] = {"lora_alpha": 2 * rank, "target_modules": LINEAR}
    return LoraConfig(r=rank, task_type="CAUSAL_LM", **{**usual, **fields})


KINDS = {
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
