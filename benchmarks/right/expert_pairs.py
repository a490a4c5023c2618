"""Pairs of experts, one for each matrix of each: the form that vLLM takes by default.

PEFT saves pairs for a parameter of all experts. They hold the same numbers in another order, so
that an adapter in either form is the same change of the base model.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MATRICES = ("gate_proj", "up_proj", "down_proj")

Tensors = Mapping[str, torch.Tensor]


def split_experts(source: Path, target: Path, experts: int) -> Path:
    """Copy an adapter that PEFT saved; `target` has its experts one by one. It may be there."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    config = json.loads((source / _CONFIG).read_text())
    config["target_modules"] = sorted({*config["target_modules"], *_MATRICES})
    config["target_parameters"] = None
    (target / _CONFIG).write_text(json.dumps(config))
    tensors = dict(_split(load_file(source / _WEIGHTS), experts))
    save_file(tensors, target / _WEIGHTS, metadata={"format": "pt"})
    return target


def _split(tensors: Tensors, experts: int) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in tensors.items():
        module, part = name.rsplit(".lora_", 1)
        if module.endswith(".experts.base_layer"):
            mixture = module.removesuffix(".base_layer")
            for number, matrix in enumerate(_of_each(tensor, part, experts)):
                # both matrices come from one product with A
                halves = [matrix, matrix] if part.startswith("A") else matrix.chunk(2)
                for half, projection in zip(halves, _MATRICES[:2], strict=True):
                    yield f"{mixture}.{number}.{projection}.lora_{part}", half.clone()
        elif module.endswith(".experts"):
            for number, matrix in enumerate(_of_each(tensor, part, experts)):
                yield f"{module}.{number}.{_MATRICES[2]}.lora_{part}", matrix.clone()
        else:
            yield name, tensor


def _of_each(tensor: torch.Tensor, part: str, experts: int) -> list[torch.Tensor]:
    """A: an expert's rows are together. B: its columns are `experts` apart."""
    if part.startswith("A"):
        return list(tensor.chunk(experts))
    return [tensor[:, number::experts] for number in range(experts)]
