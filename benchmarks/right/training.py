"""Training of a small model, and of an adapter of each kind, on this project's documentation.

Trained weights, so that log probabilities are far from uniform and an adapter's effect on them is
far above the noise of half precision.
"""

import copy
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.right.expert_pairs import split_experts
from benchmarks.right.families import EXPERTS, Family
from benchmarks.right.kinds import ONE_BY_ONE, Kinds

ROOT = Path(__file__).resolve().parents[2]
PROMPT_TOKENS = 192
HELD_OUT_CHARACTERS = 20_000
LENGTH = 256

Change = Callable[[str], str]
# One for each adapter in turn: what it is trained to write in place of the base's text.
CHANGES: tuple[Change, ...] = (
    str.upper,
    str.swapcase,
    lambda text: text.replace("e", "3").replace("a", "4"),
    lambda text: text.replace(" ", "_"),
    lambda text: " ".join(word[::-1] for word in text.split(" ")),
)


def corpus() -> str:
    """Printable ASCII of the pages."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return "".join(sign for sign in text if sign.isascii())


def make_models(folder: Path, family: Family, device: str, steps: int, batch: int) -> Path:
    """The base model. Kept if all are there.

    Beside it are each adapter as PEFT saved it, in `trained`, and as it is served, in `adapters`.
    """
    base_folder = family.write(folder)
    if all((folder / "adapters" / name / "adapter_config.json").is_file() for name in family.kinds):
        return base_folder
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # of the training alone: it is over before answers
    text = corpus()[:-HELD_OUT_CHARACTERS]
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base_folder))
    model.set_experts_implementation("eager")
    _train(model.to(device), _tokens(base_folder, text), steps, batch, rate=1e-3)
    model.save_pretrained(base_folder)
    for number, (name, config) in enumerate(family.kinds.items()):
        changed = CHANGES[number % len(CHANGES)](text)
        adapter = _adapter(base_folder, config, device)
        _train(adapter, _tokens(base_folder, changed), max(1, steps // 4), batch, rate=5e-4)
        adapter.save_pretrained(folder / "trained" / name)
        _write_served(folder, name)
    torch.set_float32_matmul_precision("highest")
    return base_folder


def _write_served(folder: Path, name: str) -> None:
    trained, served = folder / "trained" / name, folder / "adapters" / name
    if ONE_BY_ONE in name:
        split_experts(trained, served, EXPERTS)
    else:
        shutil.copytree(trained, served, dirs_exist_ok=True)


def prompts(base_folder: Path, kinds: Kinds, name: str, count: int) -> list[list[int]]:
    """Token ids of texts that no training saw, written as the adapter learned to write."""
    number = list(kinds).index(name) if name in kinds else None
    text = corpus()[-HELD_OUT_CHARACTERS:]
    if number is not None:
        text = CHANGES[number % len(CHANGES)](text)
    tokens = _tokens(base_folder, text)
    chance = random.Random(name)
    starts = [chance.randrange(len(tokens) - PROMPT_TOKENS) for _ in range(count)]
    return [tokens[start : start + PROMPT_TOKENS] for start in starts]


def _adapter(base_folder: Path, config: LoraConfig, device: str) -> Any:
    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    base.set_experts_implementation("eager")
    return get_peft_model(base, copy.deepcopy(config)).to(device)  # which it completes in place


def _tokens(base_folder: Path, text: str) -> list[int]:
    ids: list[int] = AutoTokenizer.from_pretrained(base_folder)(text)["input_ids"]
    return ids


def _train(model: Any, tokens: Sequence[int], steps: int, batch: int, rate: float) -> None:
    device = next(model.parameters()).device
    whole = torch.tensor(tokens, device=device)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
    model.train()
    for _ in range(steps):
        starts = torch.randint(len(tokens) - LENGTH, (batch,)).tolist()
        rows = torch.stack([whole[start : start + LENGTH] for start in starts])
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    print(f"# trained {steps} steps: loss {loss.item():.3f}", flush=True)
