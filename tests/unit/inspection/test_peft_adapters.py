"""Inspection of adapters that PEFT itself made and saved for the demo model."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils.other import get_pattern_key
from transformers import LlamaForCausalLM

from demo.train import load_base
from registry.errors import InvalidAdapter
from registry.inspection.base_model import BaseModel, read_base_model
from registry.inspection.inspector import Inspection, inspect_adapter
from registry.inspection.peft_config import CHECKED, HARMLESS
from registry.inspection.rank_patterns import resolve

BASE_FOLDER = Path(__file__).resolve().parents[3] / "demo" / "base"
MAX_RANK = 16
ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
ALL_LINEAR = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")

Saver = Callable[..., Path]


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return read_base_model("demo", BASE_FOLDER)


@pytest.fixture
def save(tmp_path: Path) -> Saver:
    """Lets PEFT wrap a fresh base model, give every trained weight a value, and save it."""

    def save(config: LoraConfig, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        model: LlamaForCausalLM = load_base()[1].to(dtype)
        adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
        with torch.no_grad():
            for weight in adapted.parameters():
                if weight.requires_grad:
                    weight.normal_(std=0.02)
        adapted.save_pretrained(tmp_path, **options)
        return tmp_path

    return save


def lora(**fields: Any) -> LoraConfig:
    options: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    return LoraConfig(**{**options, "task_type": "CAUSAL_LM", **fields})


def judged(folder: Path, base: BaseModel) -> Inspection:
    return inspect_adapter(folder, base, MAX_RANK)


def code_of(folder: Path, base: BaseModel) -> str:
    with pytest.raises(InvalidAdapter) as caught:
        judged(folder, base)
    return caught.value.code


@pytest.mark.parametrize(
    ("fields", "rank", "alpha", "modules"),
    [
        ({}, 4, 8, ("q_proj", "v_proj")),
        ({"r": 1, "lora_alpha": 1}, 1, 1, ("q_proj", "v_proj")),
        ({"r": 16, "lora_alpha": 3}, 16, 3, ("q_proj", "v_proj")),
        ({"use_rslora": True}, 4, 8, ("q_proj", "v_proj")),
        ({"target_modules": "all-linear"}, 4, 8, ALL_LINEAR),
        ({"target_modules": r".*\.[02]\.self_attn\.\w_proj"}, 4, 8, ATTENTION),
        ({"target_modules": ["model.layers.1.mlp.up_proj"]}, 4, 8, ("up_proj",)),
        ({"target_modules": None}, 4, 8, ("q_proj", "v_proj")),
        ({"exclude_modules": ["v_proj"]}, 4, 8, ("q_proj",)),
        ({"layers_to_transform": [0, 3]}, 4, 8, ("q_proj", "v_proj")),
        ({"layers_to_transform": 2, "layers_pattern": "layers"}, 4, 8, ("q_proj", "v_proj")),
        ({"lora_dropout": 0.1}, 4, 8, ("q_proj", "v_proj")),
        ({"init_lora_weights": False}, 4, 8, ("q_proj", "v_proj")),
        ({"init_lora_weights": "gaussian"}, 4, 8, ("q_proj", "v_proj")),
        ({"init_lora_weights": "orthogonal"}, 4, 8, ("q_proj", "v_proj")),
    ],
    ids=str,
)
def test_a_plain_adapter_is_accepted_as_what_it_is(
    save: Saver,
    base: BaseModel,
    fields: dict[str, Any],
    rank: int,
    alpha: float,
    modules: tuple[str, ...],
) -> None:
    found = judged(save(lora(**fields)), base)
    assert (found.rank, found.alpha, found.target_modules) == (rank, alpha, modules)
    assert found.dtype == "float32"
    assert found.base_model == str(BASE_FOLDER)
    assert found.shapes_checked is True
    assert found.peft_config["use_rslora"] is bool(fields.get("use_rslora"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_number_format_is_the_one_it_was_saved_in(
    save: Saver, base: BaseModel, dtype: torch.dtype
) -> None:
    found = judged(save(lora(), dtype), base)
    assert f"torch.{found.dtype}" == str(dtype)
    assert found.rank == 4


def test_a_float16_adapter_that_overflowed_is_refused(save: Saver, base: BaseModel) -> None:
    from safetensors.torch import load_file, save_file

    folder = save(lora(), torch.float16)
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = sorted(tensors)[-1]
    tensors[name] = tensors[name] * 1e9
    save_file(tensors, weights)
    assert code_of(folder, base) == "not_finite"


def test_every_field_that_peft_knows_is_looked_at_or_known_to_be_harmless() -> None:
    """A new one has to be judged before it is believed."""
    known = {field.name for field in dataclasses.fields(LoraConfig)}
    assert known <= CHECKED | HARMLESS
    assert not CHECKED & HARMLESS


def test_peft_and_we_read_a_pattern_alike() -> None:
    names = [name for name, _ in load_base()[1].named_modules()]
    pattern = {r"layers\.[01]\.self_attn\.q_proj": 1, "q_proj": 2, ".*mlp.*": 3, "k_pro.": 4}
    ours = resolve("rank_pattern", pattern, names, 0)
    assert ours == {name: pattern.get(get_pattern_key(pattern, name), 0) for name in names}
    assert set(ours.values()) == {0, 1, 2, 3, 4}


def test_a_pickle_is_refused(save: Saver, base: BaseModel) -> None:
    assert code_of(save(lora(), safe_serialization=False), base) == "pickle_weights"


def test_another_peft_method_is_refused(tmp_path: Path, base: BaseModel) -> None:
    from peft import IA3Config

    config = IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
    get_peft_model(load_base()[1], config).save_pretrained(tmp_path)
    assert code_of(tmp_path, base) == "not_lora"


def test_an_adapter_that_was_never_trained_is_refused(tmp_path: Path, base: BaseModel) -> None:
    get_peft_model(load_base()[1], lora()).save_pretrained(tmp_path)
    assert code_of(tmp_path, base) == "no_effect"


def test_a_second_adapter_of_a_model_is_saved_in_a_folder_of_its_own(
    tmp_path: Path, base: BaseModel
) -> None:
    model = get_peft_model(load_base()[1], lora(init_lora_weights=False))
    second = lora(r=8, target_modules=["down_proj"], init_lora_weights=False)
    model.add_adapter("larger_one", second)
    model.save_pretrained(tmp_path)
    assert judged(tmp_path, base).rank == 4
    found = judged(tmp_path / "larger_one", base)
    assert (found.rank, found.target_modules) == (8, ("down_proj",))


def test_an_adapter_of_another_model_is_refused(save: Saver, tmp_path: Path) -> None:
    from transformers import LlamaConfig

    folder = save(lora())
    narrow = LlamaConfig(
        vocab_size=32, hidden_size=64, intermediate_size=96, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(narrow).save_pretrained(tmp_path / "narrow")
    other = read_base_model("narrow", tmp_path / "narrow")
    assert code_of(folder, other) == "shape_mismatch"
    narrow.num_hidden_layers = 2
    LlamaForCausalLM(narrow).save_pretrained(tmp_path / "short")
    short = read_base_model("short", tmp_path / "short")
    deep = save(lora(target_modules=["model.layers.3.mlp.up_proj"]))
    assert code_of(deep, short) == "unknown_module"
