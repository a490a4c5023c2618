"""Large adapter: a PEFT folder of any size, written without holding it in memory."""

import json
from pathlib import Path

import numpy as np

MODULE = "model.layers.0.self_attn.q_proj"
RANK = 4
_BLOCK_BYTES = 16 * 2**20


def make_large_adapter(folder: Path, size_bytes: int) -> Path:
    """Its weights are float32, finite, nowhere zero, and of `size_bytes` or a little more."""
    folder.mkdir(parents=True)
    width = -(-size_bytes // (2 * RANK * 4))
    half = RANK * width * 4
    prefix = f"base_model.model.{MODULE}"
    header = json.dumps(
        {
            f"{prefix}.lora_A.weight": tensor([RANK, width], 0, half),
            f"{prefix}.lora_B.weight": tensor([width, RANK], half, 2 * half),
        }
    ).encode()
    block = np.random.default_rng(0).uniform(0.5, 1.5, _BLOCK_BYTES // 4).astype("<f4").tobytes()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        left = 2 * half
        while left:
            left -= file.write(block[:left])
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def tensor(shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
