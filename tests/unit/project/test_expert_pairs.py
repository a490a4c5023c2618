"""Pairs of experts: a run that was interrupted after some adapters were written can be repeated."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.right.expert_pairs import split_experts

EXPERTS, RANK = 2, 3
MIXTURE = "model.layers.0.mlp.experts"


def test_an_adapter_is_split_again_over_what_was_left(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    config = {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj"]}
    (source / "adapter_config.json").write_text(json.dumps(config))
    pairs = {
        f"{MIXTURE}.base_layer.lora_A.weight": torch.rand(EXPERTS * RANK, 4),
        f"{MIXTURE}.base_layer.lora_B.weight": torch.rand(8, RANK * EXPERTS),
    }
    save_file(pairs, source / "adapter_model.safetensors")
    target.mkdir()
    (target / "adapter_model.safetensors").write_bytes(b"cut off")
    for _ in range(2):
        split_experts(source, target, EXPERTS)
    found = load_file(target / "adapter_model.safetensors")
    assert found.keys() == {
        f"{MIXTURE}.{number}.{matrix}_proj.lora_{part}.weight"
        for number in range(EXPERTS)
        for matrix in ("gate", "up")
        for part in "AB"
    }
