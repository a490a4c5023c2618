"""Activated adapters that PEFT makes over the demo's base model, and what it answers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from tests.support.adapters.peft_kinds import load_base, lora

BASE = Path(__file__).resolve().parents[3] / "demo" / "base"
INVOCATIONS = {"judge": [40, 41], "guard": [40, 41], "router": [42], "title": [43, 40, 43]}
"""By adapter. Two share theirs, and one may begin within itself."""

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def save_activated(folder: Path, invocation: Sequence[int], seed: int) -> Path:
    """Random weights, strong enough that each changes the answer."""
    adapter = lora(target_modules=ALL_LINEAR, alora_invocation_tokens=list(invocation))
    return save_seeded(adapter, folder, seed)


def save_seeded(adapter: Any, folder: Path, seed: int) -> Path:
    """`Kind.save` has one seed."""
    adapter.save(BASE, folder)
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) * 0.15
        for name, tensor in sorted(load_file(path).items())
    }
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def as_plain(source: Path, folder: Path) -> Path:
    """The same weights as a plain LoRA."""
    folder.mkdir(parents=True)
    weights = "adapter_model.safetensors"
    (folder / weights).write_bytes((source / weights).read_bytes())
    config = json.loads((source / "adapter_config.json").read_text())
    config["alora_invocation_tokens"] = None
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@dataclass
class Reference:
    """transformers with PEFT's own forward, one prompt at a time and without any cache of ours."""

    adapters: dict[str, Path]
    _models: dict[str, Any] = field(default_factory=dict)
    _answers: dict[tuple[str, tuple[int, ...], int], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.set_num_threads(1)  # more spin for the cores that the engine needs

    def tokens(self, model: str, prompt: Sequence[int], count: int) -> list[int]:
        """Greedy. Computed once for each prompt of a model."""
        asked = (model, tuple(prompt), count)
        if asked not in self._answers:
            self._answers[asked] = self._generate(model, prompt, count)
        return self._answers[asked]

    def _generate(self, model: str, prompt: Sequence[int], count: int) -> list[int]:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            done = self._model(model).generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
        return [int(token) for token in done[0, len(prompt) :]]

    def prompt_logprobs(self, model: str, prompt: Sequence[int]) -> list[float]:
        """Of each token but the first."""
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            logits = self._model(model)(input_ids=ids).logits[0].float()
        found = logits.log_softmax(-1)
        return [float(found[at, token]) for at, token in enumerate(prompt[1:])]

    def replace(self, model: str, folder: Path) -> None:
        self.adapters[model] = folder
        self._models.pop(model, None)
        self._answers = {asked: told for asked, told in self._answers.items() if asked[0] != model}

    def _model(self, name: str) -> Any:
        if name not in self._models:
            model = load_base(BASE)
            folder = self.adapters.get(name)
            if folder is not None:
                model = PeftModel.from_pretrained(model, folder)
            self._models[name] = model.eval()
        return self._models[name]
