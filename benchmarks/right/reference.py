"""Reference log probabilities: transformers with PEFT on the same device and in the same dtype."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


@dataclass(frozen=True)
class Scores:
    """Of each token of a sequence but the first. `likeliest`: whether no other was likelier."""

    logprobs: list[float]
    likeliest: list[bool]


class Reference:
    """The base model with every adapter in turn."""

    def __init__(self, base_folder: Path, adapters: Path, dtype: str, device: str) -> None:
        self._base_folder, self._adapters = base_folder, adapters
        self._dtype, self._device = getattr(torch, dtype), device

    def scores(self, name: str, sequences: Sequence[Sequence[int]]) -> list[Scores]:
        """`name`: of an adapter, else the base's."""
        model = self._load(name)
        return [self._of(model, sequence) for sequence in sequences]

    def _load(self, name: str) -> Any:
        model = AutoModelForCausalLM.from_pretrained(self._base_folder, dtype=self._dtype)
        model.set_experts_implementation("eager")
        if (self._adapters / name).is_dir():
            folder = self._adapters / name
            model = PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
        return model.to(self._device, self._dtype).eval()

    def _of(self, model: Any, sequence: Sequence[int]) -> Scores:
        ids = torch.tensor([list(sequence)], device=self._device)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, :-1].float()
        logprobs = torch.log_softmax(logits, dim=-1)
        chosen = logprobs.gather(1, ids[0, 1:, None])[:, 0]
        return Scores(chosen.tolist(), (chosen >= logprobs.max(dim=-1).values).tolist())
