"""Normalisation: the names of other tools become PEFT's, and the weights stay what they are."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from registry.ingest.normalisation import normalise_names
from registry.inspection.base_model import read_base_model
from registry.inspection.inspector import inspect_adapter
from registry.inspection.safetensors_header import WEIGHTS_FILE
from registry.inspection.tensor_names import normalise
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.quarantine import QuarantineWriter
from registry.storage.integrity import hash_file

DEMO = Path(__file__).resolve().parents[3] / "demo"
MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


def with_default(name: str) -> str:
    return name.replace(".weight", ".default.weight")


def without_prefix(name: str) -> str:
    return name.removeprefix("base_model.model.")


def adapter(folder: Path, rename: Callable[[str], str]) -> FetchedSource:
    """The demo's adapter, which PEFT saved, under other names."""
    shutil.copytree(DEMO / "adapters" / "upper", folder)
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file({rename(name): tensor for name, tensor in tensors.items()}, folder / WEIGHTS_FILE)
    writer = QuarantineWriter(folder, FetchLimits(10**9), Progress())
    for file in sorted(folder.iterdir()):
        writer.adopt(file)
    return writer.finish()


@pytest.mark.parametrize(
    "rename",
    [with_default, without_prefix, lambda name: with_default(without_prefix(name))],
    ids=["with the adapter's name", "without a prefix", "both"],
)
def test_an_adapter_under_other_names_is_the_same(
    tmp_path: Path, rename: Callable[[str], str]
) -> None:
    folder = tmp_path / "a"
    before = adapter(folder, rename)
    link = tmp_path / "upload"
    link.hardlink_to(folder / WEIGHTS_FILE)
    sent = link.read_bytes()
    after = normalise_names(folder, before, Progress())
    stored = load_file(folder / WEIGHTS_FILE)
    original = load_file(DEMO / "adapters" / "upper" / WEIGHTS_FILE)
    assert stored.keys() == original.keys()
    assert all(np.array_equal(stored[name], original[name]) for name in original)
    assert link.read_bytes() == sent  # an upload is kept for another attempt
    hashed = {file.name: (file.name, file.size_bytes, file.hash) for file in after.files}
    assert hashed == {file.name: hash_file(file) for file in folder.iterdir()}
    [(code, detail)] = after.remarks
    assert code == "names_normalised"
    assert rename("base_model.model.") in detail
    base = read_base_model("base", DEMO / "base")
    report = inspect_adapter(folder, base, 16, after.remarks).report
    assert report["remarks"][0] == {"code": code, "detail": detail}
    assert normalise_names(folder, after, Progress()) is after


def test_what_peft_saved_is_left_alone(tmp_path: Path) -> None:
    fetched = adapter(tmp_path / "a", lambda name: name)
    assert normalise_names(tmp_path / "a", fetched, Progress()) is fetched


def test_an_embedding_is_named_as_peft_does() -> None:
    name = "base_model.model.model.embed_tokens.lora_embedding_A.default"
    assert normalise([name]) == {name: name.removesuffix(".default")}


@pytest.mark.parametrize(
    "names",
    [
        [f"{MODULE}.lora_A.weight", f"{MODULE}.lora_A.default.weight"],
        [f"{MODULE}.lora_A.weight", without_prefix(f"{MODULE}.lora_A.weight")],
        [f"{MODULE}.lora_A.sft.weight"],  # PEFT would not load it either
        ["_orig_mod.model.layers.0.self_attn.q_proj.lora_A.weight"],
        ["lm_head.weight"],
    ],
)
def test_what_is_not_certain_is_left_to_inspection(names: list[str]) -> None:
    assert normalise(names) is None


def test_a_header_of_very_many_tensors_is_left_to_inspection() -> None:
    assert normalise([f"{MODULE}.{n}.lora_A.default.weight" for n in range(50_001)]) is None


def test_weights_that_cannot_be_read_are_left_to_inspection(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes(b"no weights")
    fetched = FetchedSource(())
    assert normalise_names(tmp_path, fetched, Progress()) is fetched
    (tmp_path / WEIGHTS_FILE).unlink()
    assert normalise_names(tmp_path, fetched, Progress()) is fetched
