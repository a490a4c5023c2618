"""Adapters that PEFT itself makes and saves, and what transformers with PEFT answers with them."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import ArrowConfig, create_arrow_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

PROMPT = "the quick brown"  # of which the demo's base is not sure, so that little changes show
TOKENS = 5
TOLERANCE = 2e-3  # of a log probability, float32 on both sides
ALONE = {"save_embedding_layers": False}

Tensors = dict[str, torch.Tensor]
Edit = Callable[[Path], None]


@dataclass(frozen=True)
class Answer:
    """Greedy tokens and the log probability of each; of a pooled prompt its numbers alone."""

    tokens: list[int]
    logprobs: list[float]

    def equals(self, other: "Answer") -> bool:
        pairs = zip(self.logprobs, other.logprobs, strict=True)
        return self.tokens == other.tokens and all(abs(a - b) < TOLERANCE for a, b in pairs)


@dataclass(frozen=True)
class Kind:
    """An adapter that PEFT makes with this configuration and saves, and what is done to it then."""

    config: PeftConfig
    edits: tuple[Edit, ...] = ()
    resize_to: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def with_names(self, names: Mapping[str, str]) -> "Kind":
        """The same adapter for a base model whose modules have other names."""
        config = copy.deepcopy(self.config)
        targets = config.target_modules
        if not isinstance(targets, str):
            config.target_modules = {names.get(target, target) for target in targets}
        for pattern in (config.rank_pattern, config.alpha_pattern):
            for key in names.keys() & pattern.keys():
                pattern[names[key]] = pattern.pop(key)
        return replace(self, config=config)

    def save(self, base_folder: Path, folder: Path) -> Path:
        """Every trained weight gets another value than PEFT's first one."""
        torch.manual_seed(3)
        base = load_base(base_folder)
        self.config.task_type = TASKS[task_of(base_folder)].peft
        if self.resize_to is not None:
            base.resize_token_embeddings(self.resize_to)
        model = get_peft_model(base, self.config, autocast_adapter_dtype=False)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn_like(weight) * 0.2)
        model.save_pretrained(folder, **self.options)
        for edit in self.edits:
            edit(folder)
        return folder


@dataclass(frozen=True)
class Task:
    """What a base model does: its class in transformers, and PEFT's word for it."""

    loader: Any
    peft: str


TASKS = {
    "generate": Task(AutoModelForCausalLM, "CAUSAL_LM"),
    "embed": Task(AutoModel, "FEATURE_EXTRACTION"),
    "classify": Task(AutoModelForSequenceClassification, "SEQ_CLS"),
}


def task_of(base_folder: Path) -> str:
    """By the class that the base model was saved from."""
    (saved_from,) = json.loads((base_folder / "config.json").read_text())["architectures"]
    if saved_from.endswith("ForSequenceClassification"):
        return "classify"
    return "generate" if saved_from.endswith("ForCausalLM") else "embed"


def load_base(folder: Path) -> Any:
    """A model of its own, as PEFT puts its layers into it. The files are read once."""
    return copy.deepcopy(_read_base(folder))


@lru_cache(maxsize=2)
def _read_base(folder: Path) -> Any:
    loader = TASKS[task_of(folder)].loader
    return loader.from_pretrained(folder, dtype=torch.float32)


def lora(*edits: Edit, resize_to: int | None = None, options: Any = None, **fields: Any) -> Kind:
    usual: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    config = LoraConfig(**{**usual, "task_type": "CAUSAL_LM", **fields})
    return Kind(config, edits, resize_to, options or {})


def configured(**fields: Any) -> Edit:
    """Change the saved configuration; None takes a field away."""

    def edit(folder: Path) -> None:
        path = folder / "adapter_config.json"
        config = {**json.loads(path.read_text()), **fields}
        kept = {name: value for name, value in config.items() if fields.get(name, 0) is not None}
        path.write_text(json.dumps(kept))

    return edit


def weighing(change: Callable[[Tensors], Tensors]) -> Edit:
    """Change the saved tensors."""

    def edit(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        tensors = {name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}
        save_file(tensors, path, metadata={"format": "pt"})

    return edit


def each(change: Callable[[str, torch.Tensor], torch.Tensor]) -> Edit:
    return weighing(lambda tensors: {name: change(name, t) for name, t in tensors.items()})


def as_dtypes(a: torch.dtype, b: torch.dtype) -> Edit:
    return each(lambda name, tensor: tensor.to(a if "lora_A" in name else b))


def with_value(value: float) -> Edit:
    """In the last layer, behind its attention.

    What is not finite must not get into the engine's KV cache: vLLM's kernel for the CPU computes
    with what an earlier request left in a block, masked or not, and NaN times zero is NaN.
    """

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name.endswith("layers.3.mlp.down_proj.lora_B.weight"):
            tensor[3, 1] = value
        return tensor

    return each(change)


def without(part: str) -> Edit:
    return weighing(lambda tensors: {n: t for n, t in tensors.items() if part not in n})


def renamed(old: str, new: str) -> Edit:
    return weighing(lambda tensors: {n.replace(old, new, 1): t for n, t in tensors.items()})


def as_pickle(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    torch.save(load_file(weights), folder / "adapter_model.bin")
    weights.unlink()


def cut_off(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def load_adapted(base: Any, folder: Path) -> Any:
    """A router is loaded with the adapters that it chooses from, which are saved beside it."""
    arrow = json.loads((folder / "adapter_config.json").read_text()).get("arrow_config")
    if not arrow:
        return PeftModel.from_pretrained(base, folder)
    routed = [str(folder.parent / name) for name in arrow["task_adapter_names"]]
    return create_arrow_model(base, routed, ArrowConfig(top_k=arrow["top_k"]))


class Peft:
    """One base model with transformers and PEFT: greedy decoding, or what vLLM pools."""

    def __init__(self, base_folder: Path) -> None:
        torch.set_num_threads(1)
        self._base_folder = base_folder
        self.task = task_of(base_folder)
        self._tokenizer = AutoTokenizer.from_pretrained(base_folder)
        self._prompt = self._tokenizer(PROMPT, return_tensors="pt").input_ids
        self._pooled: dict[tuple[Path | None, str], list[float]] = {}
        self.base = self._compute(load_base(base_folder))

    def answer(self, folder: Path) -> Answer | None:
        """None if PEFT itself can't load it."""
        try:
            model = load_adapted(load_base(self._base_folder), folder)
        except Exception:
            return None
        return self._compute(model)

    def prompt_logprobs(self, folder: Path | None, prompt: str) -> list[float]:
        """Of each token but the first."""
        model = load_base(self._base_folder)
        if folder is not None:
            model = PeftModel.from_pretrained(model, folder)
        model.eval()
        ids = self._tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            logprobs = model(input_ids=ids).logits[0].float().log_softmax(-1)
        return [float(logprobs[n, token]) for n, token in enumerate(ids[0, 1:])]

    def pooled(self, folder: Path | None, text: str) -> list[float]:
        """Of any text: its embedding, or the probabilities of the labels."""
        if (folder, text) not in self._pooled:
            model = load_base(self._base_folder)
            if folder is not None:
                model = PeftModel.from_pretrained(model, folder)
            ids = self._tokenizer(text, return_tensors="pt").input_ids
            self._pooled[folder, text] = self._pool(model, ids)
        return self._pooled[folder, text]

    def _compute(self, model: Any) -> Answer:
        if self.task == "generate":
            return self._decode(model)
        return Answer([], self._pool(model, self._prompt))

    def _pool(self, model: Any, ids: torch.Tensor) -> list[float]:
        """As vLLM: an embedding is normalised, and a single label stands for itself."""
        model.eval()
        with torch.inference_mode():
            output = model(input_ids=ids)
        if self.task == "classify":
            logits = output.logits[0].float()
            chances = logits.sigmoid() if len(logits) == 1 else logits.softmax(-1)
            return [float(chance) for chance in chances]
        last = output.last_hidden_state[0, -1].float()
        return [float(number) for number in last / last.norm()]

    def _decode(self, model: Any) -> Answer:
        ids, answer = self._prompt, Answer([], [])
        model.eval()
        with torch.inference_mode():
            for _ in range(TOKENS):
                logprobs = model(input_ids=ids).logits[0, -1].float().log_softmax(-1)
                token = int(logprobs.argmax())
                answer.tokens.append(token)
                answer.logprobs.append(float(logprobs[token]))
                ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        return answer
