"""Models and adapters to measure with: real shapes, random weights, generated when needed."""

import itertools
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "demo" / "base"


@dataclass(frozen=True)
class Shape:
    """A Llama's sizes. `name` is also its folder's."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    dtype: str

    def linear(self) -> dict[str, tuple[int, int]]:
        """(in, out) of every linear layer of a block."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "self_attn.q_proj": (self.hidden, queries),
            "self_attn.k_proj": (self.hidden, keys),
            "self_attn.v_proj": (self.hidden, keys),
            "self_attn.o_proj": (queries, self.hidden),
            "mlp.gate_proj": (self.hidden, self.intermediate),
            "mlp.up_proj": (self.hidden, self.intermediate),
            "mlp.down_proj": (self.intermediate, self.hidden),
        }


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("llama-8b", 4096, 14336, 32, 32, 8, 128, 128256, "bfloat16"),
        Shape("llama-1b", 2048, 8192, 16, 32, 8, 64, 264, "bfloat16"),
        Shape("small", 512, 1376, 4, 8, 8, 64, 264, "float32"),
        Shape("tiny", 128, 320, 4, 4, 4, 32, 264, "float32"),
    )
}


def name_of(adapter: int) -> str:
    return f"adapter-{adapter:03}"


def write_base_model(parent: Path, shape: Shape, *, positions: int = 8192) -> Path:
    """A folder to be served with `--load-format dummy`: configuration and the demo's tokenizer."""
    folder = parent / shape.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TOKENIZER / name, folder / name)
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(shape.vocabulary)))
    config = json.loads((TOKENIZER / "config.json").read_text())
    config.update(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        vocab_size=shape.vocabulary,
        max_position_embeddings=positions,
        dtype=shape.dtype,
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _tokenizer(vocabulary: int) -> dict[str, Any]:
    """The demo's tokenizer, with a text for every token that the model may emit."""
    tokenizer: dict[str, Any] = json.loads((TOKENIZER / "tokenizer.json").read_text())
    known = tokenizer["model"]["vocab"]
    for token in range(max(known.values()) + 1, vocabulary):
        known[f"<{token}>"] = token
    return tokenizer


def write_adapter(parent: Path, name: str, shape: Shape, *, rank: int, seed: int) -> Path:
    """What PEFT would save for all linear layers, with small random weights in A and B."""
    folder = parent / name
    if (folder / "adapter_config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, shape.dtype)
    tensors = {}
    for layer in range(shape.layers):
        for module, (inputs, outputs) in shape.linear().items():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            a = torch.randn(rank, inputs, generator=generator) * inputs**-0.5
            b = torch.randn(outputs, rank, generator=generator) * 0.1
            tensors[f"{prefix}.lora_A.weight"] = a.to(dtype)
            tensors[f"{prefix}.lora_B.weight"] = b.to(dtype)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": shape.name,
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "target_modules": sorted(module.split(".")[1] for module in shape.linear()),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def write_adapters(parent: Path, names: Sequence[str], shape: Shape, *, rank: int) -> list[Path]:
    """Several at once, each with its number among them as the seed."""

    def write(seed: int, name: str) -> Path:
        return write_adapter(parent, name, shape, rank=rank, seed=seed)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(write, itertools.count(1), names))


def weights_bytes(folder: Path) -> int:
    return (folder / "adapter_model.safetensors").stat().st_size
