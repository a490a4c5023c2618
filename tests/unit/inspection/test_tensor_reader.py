"""The numbers of a tensor, read in chunks, against numpy and torch."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from registry.inspection.safetensors_header import TensorInfo, read_header
from registry.inspection.tensor_reader import DTYPES, Truncated, is_finite, is_zero, same_values

TORCH = {name: getattr(torch, known) for name, known in DTYPES.items()}


def stored(folder: Path, tensor: torch.Tensor, name: str = "x") -> tuple[Path, TensorInfo]:
    path = folder / f"{name}.safetensors"
    save_file({"before": torch.ones(3), "x": tensor}, path)
    return path, read_header(path)["x"]


@pytest.mark.parametrize("dtype", TORCH)
@settings(max_examples=50)
@given(data=st.data())
def test_any_bits_are_judged_as_torch_judges_them(dtype: str, data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=16, max_size=64).map(lambda b: b[: len(b) // 8 * 8]))
    tensor = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(TORCH[dtype])
    content = save({"x": tensor})
    start = len(content) - len(raw)
    file, info = io.BytesIO(content), TensorInfo(dtype, tuple(tensor.shape), start, len(raw))
    wide = tensor.to(torch.float64)
    assert is_finite(file, info) == bool(torch.isfinite(wide).all())
    assert is_zero(file, info) == bool((wide == 0).all())


def test_a_file_that_ends_too_early_is_noticed() -> None:
    info = TensorInfo("F32", (4,), 0, 16)
    for check in (is_finite, is_zero):
        with pytest.raises(Truncated):
            check(io.BytesIO(bytes(15)), TensorInfo("F16", (9,), 0, 18))
    with pytest.raises(Truncated):
        is_zero(io.BytesIO(b""), info)


@pytest.mark.parametrize("mine", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("other", ["F64", "F32", "F16", "BF16"])
def test_numbers_are_the_same_in_whatever_format_they_fit(
    tmp_path: Path, mine: str, other: str
) -> None:
    values = torch.arange(-120, 120).reshape(20, 12)  # all of them fit into each format
    path, info = stored(tmp_path, values.to(TORCH[mine]), "mine")
    other_path, other_info = stored(tmp_path, values.to(TORCH[other]), "other")
    with path.open("rb") as file:
        assert same_values(file, info, other_path, other_info)
        values[-1, -1] += 1
        changed_path, changed = stored(tmp_path, values.to(TORCH[other]), "changed")
        assert not same_values(file, info, changed_path, changed)
        assert not same_values(file, info, other_path, TensorInfo(other, (12, 20), 0, 0))


def test_rounded_numbers_are_not_the_same(tmp_path: Path) -> None:
    values = torch.tensor(np.linspace(0, 1, 100))
    path, info = stored(tmp_path, values.to(torch.float32), "mine")
    rounded_path, rounded = stored(tmp_path, values.to(torch.bfloat16), "rounded")
    with path.open("rb") as file:
        assert not same_values(file, info, rounded_path, rounded)


def test_what_is_no_plain_number_is_never_the_same(tmp_path: Path) -> None:
    path, info = stored(tmp_path, torch.ones(4, 4, dtype=torch.int32))
    with path.open("rb") as file:
        assert not same_values(file, info, path, info)
