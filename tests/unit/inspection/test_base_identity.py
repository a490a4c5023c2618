"""Identity of base models: which are told apart, and which may be declared the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from registry.inspection.base_identity import BaseIdentity, identity_of
from registry.inspection.supported_modules import SupportedModule, SupportedModules, UnknownNaming

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
    "torch_dtype": "bfloat16",
}


def model(folder: Path, *, seed: int = 0, dtype: type = np.float32, **changed: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changed))
    weights: np.ndarray[Any, Any] = np.random.default_rng(seed).random((64, 64)).astype(dtype)
    save_file({"layer.weight": weights}, folder / "model.safetensors")
    return folder


def identity(folder: Path, **options: Any) -> BaseIdentity:
    return identity_of(str(folder), folder, **options)


def test_a_folder_is_called_by_its_name_and_its_weights(tmp_path: Path) -> None:
    one = identity(model(tmp_path / "a" / "base"))
    same = identity(model(tmp_path / "b" / "base"))
    trained_on = identity(model(tmp_path / "c" / "base", seed=1))
    assert one == BaseIdentity(same.name, same.digest, same.facts, one.also)
    assert one.name.startswith("base@")
    assert trained_on.digest == one.digest, "the shape is the same"
    assert trained_on.name != one.name
    assert identity(model(tmp_path / "instruct")).name.startswith("instruct@")


@pytest.mark.parametrize(
    ("part", "is_noticed"), [(0.0, True), (0.5, True), (0.99, True), (0.51, False)]
)
def test_a_change_in_place_is_noticed_at_the_places_that_are_sampled(
    tmp_path: Path, part: float, is_noticed: bool
) -> None:
    """64 of each file: docs/operations/base-models.md says what escapes them."""
    folder = tmp_path / "base"
    folder.mkdir()
    weights = folder / "model.safetensors"
    content = bytearray(64 * 16384)
    weights.write_bytes(content)
    before = identity(folder).name
    content[int(part * 64) * 16384 + (8192 if part == 0.51 else 100)] = 1
    weights.write_bytes(content)
    assert (identity(folder).name != before) == is_noticed


def test_other_files_of_weights_are_noticed(tmp_path: Path) -> None:
    folder = model(tmp_path / "base")
    before = identity(folder).name
    (folder / "more.safetensors").write_bytes(b"x")
    assert identity(folder).name != before


def test_a_model_of_the_hub_is_called_by_its_name_and_commit(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = model(tmp_path / "models--org--Model" / "snapshots" / commit)
    assert identity_of("org/Model", cached).name == "org/Model@0123456789ab"
    assert identity(cached).name == "org/Model@0123456789ab", "vLLM says the path when offline"
    assert identity_of("org/Model", None, revision="v2").name == "org/Model@v2"
    assert identity_of("org/Model", None).name == "org/Model"


def test_a_quantized_or_retyped_variant_can_be_declared_the_same(tmp_path: Path) -> None:
    whole = model(tmp_path / "whole")
    variant = model(
        tmp_path / "awq",
        dtype=np.float16,
        torch_dtype="float16",
        quantization_config={"quant_method": "awq", "bits": 4},
        head_dim=16,  # what it is without being written
        num_key_value_heads=4,
    )
    assert identity(whole).name != identity(variant).name
    assert (one := identity(whole, declared="llama")).name == "llama"
    assert (one.name, one.digest) == (
        (other := identity(variant, declared="llama")).name,
        other.digest,
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"architectures": ["LlamaForSequenceClassification"]},
        {"hidden_size": 128},
        {"num_hidden_layers": 3},
        {"num_key_value_heads": 2},
        {"intermediate_size": 256},
        {"vocab_size": 101},
        {"num_experts": 8},
        {"text_config": {"hidden_size": 128}},
    ],
)
def test_what_decides_whether_an_adapter_fits_is_in_the_digest(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    declared = identity(model(tmp_path / "one"), declared="same")
    other = identity(model(tmp_path / "other", **changed), declared="same")
    assert declared.digest != other.digest


def test_a_base_model_is_known_by_what_adapters_call_it(tmp_path: Path) -> None:
    base = identity_of("org/Model-8B", None, revision="v2", also=["chat"])
    for name in ("org/Model-8B", "elsewhere/model-8b", "/models/Model-8B/", "chat"):
        assert base.is_called(name), name
    cached = "/home/x/.cache/huggingface/hub/models--org--Model-8B/snapshots/0123"
    assert base.is_called(cached)
    assert not base.is_called("org/Model-8B-Instruct")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"architectures": 3, "hidden_size": "x"}'])
def test_a_configuration_that_says_nothing_leaves_the_name(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert identity(tmp_path).facts == {}
    assert identity(tmp_path).name == tmp_path.name


def test_what_an_engine_serves_is_no_part_of_the_identity(tmp_path: Path) -> None:
    """Else each upgrade of vLLM would leave every version unserved: see decision 0012."""
    folder = model(tmp_path / "base")
    some, more = (
        SupportedModules("vLLM", dict.fromkeys(names, SupportedModule((64, 64))), UnknownNaming())
        for names in (["q_proj"], ["q_proj", "experts"])
    )
    assert identity(folder, served=some) == identity(folder, served=more) == identity(folder)
