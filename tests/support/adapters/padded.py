"""Padded adapters: the weights of another in a larger rank, with the same effect."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def save_padded(source: Path, folder: Path, rank: int) -> Path:
    """A plain LoRA of this rank: what its A and B have more is 0."""
    folder.mkdir(parents=True)
    config = json.loads((source / CONFIG).read_text())
    config |= {"r": rank, "lora_alpha": config["lora_alpha"] * rank // config["r"]}
    (folder / CONFIG).write_text(json.dumps(config))
    padded = {}
    for name, weights in load_file(source / WEIGHTS).items():
        along = 0 if "lora_A" in name else 1
        shape = list(weights.shape)
        shape[along] = rank - shape[along]
        more = torch.zeros(shape, dtype=weights.dtype)
        padded[name] = torch.cat([weights, more], dim=along).contiguous()
    save_file(padded, folder / WEIGHTS, metadata={"format": "pt"})
    return folder
