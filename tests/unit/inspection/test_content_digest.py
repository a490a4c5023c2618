"""Content digests: the same for what answers alike, and for nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file

from demo.train import load_base
from registry.inspection.content_digest import content_digest
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import WEIGHTS_FILE

UPPER = Path(__file__).resolve().parents[3] / "demo" / "adapters" / "upper"
NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"

Tensors = dict[str, "np.ndarray[Any, Any]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(UPPER, tmp_path / "adapter")


def digest(folder: Path) -> str:
    return content_digest(folder)


def configure(folder: Path, indent: int | None = 2, **fields: Any) -> None:
    file = folder / CONFIG_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}, indent=indent))


def weigh(folder: Path, change: Callable[[Tensors], object], **metadata: str) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE, metadata or None)


def reorder(folder: Path) -> None:
    """The header in another order, with more room."""
    content = (folder / WEIGHTS_FILE).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = dict(reversed(json.loads(content[8 : 8 + length]).items()))
    text = json.dumps(header).encode() + b"  "
    new = len(text).to_bytes(8, "little") + text + content[8 + length :]
    (folder / WEIGHTS_FILE).write_bytes(new)


def test_peft_saves_the_same_adapter_again(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    adapted = PeftModel.from_pretrained(load_base()[1], str(UPPER))
    config = adapted.peft_config["default"]
    config.target_modules = sorted(config.target_modules, reverse=True)
    adapted.save_pretrained(str(tmp_path))
    assert (tmp_path / CONFIG_FILE).read_bytes() != (UPPER / CONFIG_FILE).read_bytes()
    assert digest(tmp_path) == digest(UPPER)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: configure(folder, target_modules=["v_proj", "q_proj"]),
        lambda folder: configure(folder, target_modules=r".*\.(q|v)_proj"),
        lambda folder: configure(folder, init_lora_weights="gaussian"),
        lambda folder: configure(folder, indent=None),
        lambda folder: configure(folder, lora_alpha=8.0),
        lambda folder: configure(folder, some_new_feature=None, another=False, peft_version="9"),
        lambda folder: configure(folder, lora_dropout=0.3, inference_mode=False, bias="none"),
        lambda folder: weigh(folder, lambda tensors: None, format="pt", trainer="another"),
        reorder,
    ],
    ids=[
        *("order", "expression", "initial weights", "spacing", "number", "fields that are off"),
        *("training", "metadata", "header"),
    ],
)
def test_what_does_not_decide_the_answers(folder: Path, change: Callable[[Path], object]) -> None:
    change(folder)
    assert digest(folder) == digest(UPPER)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: configure(folder, lora_alpha=9),
        lambda folder: configure(folder, use_rslora=True),
        lambda folder: configure(folder, alpha_pattern={"q_proj": 4}),
        lambda folder: configure(folder, base_model_name_or_path="another"),
        lambda folder: configure(folder, a_new_feature=True),
        lambda folder: weigh(folder, lambda tensors: tensors[NAME].__setitem__((0, 0), 7)),
        lambda folder: weigh(folder, lambda tensors: tensors.pop(NAME)),
        lambda folder: weigh(folder, lambda tensors: tensors.update(odd=tensors.pop(NAME))),
        lambda folder: weigh(
            folder, lambda tensors: tensors.update({NAME: tensors[NAME].astype(np.float16)})
        ),
        lambda folder: weigh(
            folder, lambda tensors: tensors.update({NAME: tensors[NAME].T.copy()})
        ),
    ],
    ids=[
        "alpha",
        "scaling",
        "pattern",
        "base",
        "feature",
        "value",
        "less",
        "name",
        "dtype",
        "shape",
    ],
)
def test_what_decides_the_answers(folder: Path, change: Callable[[Path], object]) -> None:
    change(folder)
    assert digest(folder) != digest(UPPER)


def test_the_order_of_patterns_counts(folder: Path, tmp_path: Path) -> None:
    """The first key that matches a module is the one that is used."""
    keys = {"q_proj": 4, "self_attn.q_proj": 2}
    configure(folder, alpha_pattern=keys)
    first = digest(folder)
    configure(folder, alpha_pattern=dict(reversed(keys.items())))
    assert digest(folder) != first


def test_the_order_of_saved_modules_does_not_count(folder: Path) -> None:
    """PEFT keeps them in a set."""
    configure(folder, modules_to_save=["score", "classifier"])
    first = digest(folder)
    configure(folder, modules_to_save=["classifier", "score"])
    assert digest(folder) == first
    configure(folder, modules_to_save=["score"])
    assert digest(folder) != first
