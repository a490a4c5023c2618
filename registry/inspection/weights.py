"""Checks of the weights' values: damaged, without effect, or not those of the base model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.base_model import BaseModel, StoredTensor
from registry.inspection.safetensors_header import TensorInfo
from registry.inspection.tensor_reader import DTYPES, Truncated, is_finite, is_zero, same_values
from registry.inspection.tensors import AdapterTensors, quote_name


def value_problems(
    weights: Path,
    header: Mapping[str, TensorInfo],
    tensors: AdapterTensors,
    base: BaseModel,
    alphas: Mapping[str, float],
) -> Iterator[InvalidAdapter]:
    """Reads each tensor once, and compared ones twice. `alphas` by module, if known."""
    try:
        with weights.open("rb") as file:
            for name, tensor in header.items():
                if tensor.dtype in DTYPES and not is_finite(file, tensor):
                    detail = f"{quote_name(name)} holds NaN or infinity"
                    yield InvalidAdapter(Defect.NOT_FINITE, detail)
            for module, tensor in tensors.repeated.items():
                yield from _repeated_problem(file, module, tensor, base)
            if alphas and not tensors.heads and not _has_effect(file, tensors, alphas):
                detail = "it changes nothing: in each pair lora_A, lora_B or alpha is zero"
                yield InvalidAdapter(Defect.NO_EFFECT, detail)
    except Truncated:
        yield InvalidAdapter(Defect.TENSOR_OUT_OF_BOUNDS, f"{weights.name} was cut off")


def _repeated_problem(
    file: BinaryIO, module: str, tensor: TensorInfo, base: BaseModel
) -> Iterator[InvalidAdapter]:
    """vLLM ignores base weights in an adapter, so they must equal the base model's."""
    own = base.embedding(module)
    why = "can't be compared with" if own is None else "differs from"
    if own is None or not _is_same(file, tensor, own):
        yield InvalidAdapter(
            Defect.BASE_WEIGHTS_CHANGED,
            f"{quote_name(module)} was saved along and {why} the base model's; "
            "save with save_embedding_layers=False",
        )


def _is_same(file: BinaryIO, tensor: TensorInfo, own: StoredTensor) -> bool:
    try:
        return same_values(file, tensor, own.file, own.info)
    except OSError:  # the base model's file was deleted
        return False


def _has_effect(file: BinaryIO, tensors: AdapterTensors, alphas: Mapping[str, float]) -> bool:
    return any(
        alphas[module] != 0 and not (_is_zero(file, pair.a) or _is_zero(file, pair.b))
        for module, pair in tensors.pairs.items()
    )


def _is_zero(file: BinaryIO, tensor: TensorInfo) -> bool:
    return tensor.dtype in DTYPES and is_zero(file, tensor)
