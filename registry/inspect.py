"""Proves, without loading it, that vLLM will serve an adapter as trained, or says why not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from registry.base_model import BaseModel
from registry.errors import InvalidAdapter
from registry.peft_config import CONFIG_FILE, read_peft_config
from registry.safetensors_header import TensorInfo, read_header

WEIGHTS_FILE = "adapter_model.safetensors"
PICKLE_FILE = "adapter_model.bin"

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_CHUNK_BYTES = 4 * 2**20
_EMBEDDINGS = frozenset({"embed_tokens", "lm_head", "wte"})


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an accepted adapter is."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    dtype: str
    size_bytes: int
    base_model: str | None
    peft_config: dict[str, Any]
    shapes_checked: bool


@dataclass(frozen=True, slots=True)
class _Pair:
    a: TensorInfo
    b: TensorInfo


def inspect_adapter(folder: Path, base: BaseModel, max_rank: int) -> Inspection:
    """Check configuration, header and finiteness; time and memory are bounded by the file size.

    Raises InvalidAdapter with a code for each defect.
    """
    config = read_peft_config(folder, max_rank)
    weights = _weights_file(folder)
    tensors = read_header(weights)
    pairs = _pairs(tensors)
    for module, pair in pairs.items():
        _check_rank(module, pair, config.rank)
        _check_fit(module, pair, base)
    dtypes = {tensor.dtype for tensor in tensors.values()}
    _check_finite(weights, tensors)
    return Inspection(
        rank=config.rank,
        alpha=config.alpha,
        target_modules=tuple(sorted({module.rpartition(".")[2] for module in pairs})),
        dtype=_DTYPES[dtypes.pop()] if len(dtypes) == 1 else "mixed",
        size_bytes=weights.stat().st_size + (folder / CONFIG_FILE).stat().st_size,
        base_model=config.base_model,
        peft_config=config.raw,
        shapes_checked=all(_shape_in(base, module) is not None for module in pairs),
    )


def _weights_file(folder: Path) -> Path:
    weights = folder / WEIGHTS_FILE
    if weights.is_file():
        return weights
    if (folder / PICKLE_FILE).is_file():
        raise InvalidAdapter(
            "pickle_weights", f"{PICKLE_FILE} is a pickle, which can run code: save as safetensors"
        )
    raise InvalidAdapter("weights_missing", f"there is no {WEIGHTS_FILE}")


def _pairs(tensors: dict[str, TensorInfo]) -> dict[str, _Pair]:
    """The low-rank pairs by the base model's module name."""
    modules = sorted({_module_of(name) for name in tensors})
    if not modules:
        raise InvalidAdapter("no_modules", "it changes nothing: there is no tensor in it")
    pairs = {}
    for module in modules:
        a = tensors.get(f"{_PREFIX}{module}{_A}")
        b = tensors.get(f"{_PREFIX}{module}{_B}")
        if a is None or b is None:
            missing = "lora_A" if a is None else "lora_B"
            raise InvalidAdapter("unpaired_tensor", f"{_shown(module)} has no {missing}")
        pairs[module] = _Pair(a, b)
    return pairs


def _module_of(name: str) -> str:
    if "lora_embedding_" in name or not _EMBEDDINGS.isdisjoint(name.split(".")):
        raise InvalidAdapter(
            "embedding_unsupported", f"{_shown(name)}: embeddings and heads are not served"
        )
    for suffix in (_A, _B):
        if name.startswith(_PREFIX) and name.endswith(suffix):
            return name.removeprefix(_PREFIX).removesuffix(suffix)
    raise InvalidAdapter("unknown_tensor", f"{_shown(name)} is neither a lora_A nor a lora_B")


def _check_rank(module: str, pair: _Pair, rank: int) -> None:
    for which, tensor in (("lora_A", pair.a), ("lora_B", pair.b)):
        if tensor.dtype not in _DTYPES:
            raise InvalidAdapter("dtype_unsupported", f"{_shown(module)}.{which} is {tensor.dtype}")
        if len(tensor.shape) != 2 or 0 in tensor.shape:
            raise InvalidAdapter("shape_mismatch", f"{_shown(module)}.{which} is not a matrix")
    if pair.a.shape[0] != rank or pair.b.shape[1] != rank:
        found = (pair.a.shape[0], pair.b.shape[1])
        raise InvalidAdapter("rank_mismatch", f"{_shown(module)} has ranks {found}, r says {rank}")


def _check_fit(module: str, pair: _Pair, base: BaseModel) -> None:
    if base.shapes is not None and module not in base.shapes:
        raise InvalidAdapter("unknown_module", f"{base.name} has no linear layer {_shown(module)}")
    wanted = _shape_in(base, module)
    found = (pair.b.shape[0], pair.a.shape[1])
    if wanted is not None and found != wanted:
        raise InvalidAdapter(
            "shape_mismatch",
            f"{_shown(module)} is made for {found}, {base.name} has {wanted} (out, in)",
        )


def _shape_in(base: BaseModel, module: str) -> tuple[int, int] | None:
    return None if base.shapes is None else base.shapes.get(module)


def _check_finite(path: Path, tensors: dict[str, TensorInfo]) -> None:
    with path.open("rb") as file:
        for name, tensor in tensors.items():
            file.seek(tensor.offset_bytes)
            left = tensor.size_bytes
            while left:
                chunk = file.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    raise InvalidAdapter("tensor_out_of_bounds", f"{path.name} was cut off")
                left -= len(chunk)
                if not _is_finite(chunk, tensor.dtype):
                    raise InvalidAdapter("not_finite", f"{_shown(name)} holds NaN or infinity")


def _is_finite(chunk: bytes, dtype: str) -> bool:
    """`_CHUNK_BYTES` is a multiple of every item size, so no number is cut in two."""
    item_bytes = 4 if dtype == "F32" else 2
    usable = chunk[: len(chunk) // item_bytes * item_bytes]
    if dtype == "BF16":  # numpy has none: all exponent bits set means NaN or infinity
        bits = np.frombuffer(usable, dtype="<u2")
        return not bool(np.any((bits & 0x7F80) == 0x7F80))
    values = np.frombuffer(usable, dtype="<f4" if dtype == "F32" else "<f2")
    return bool(np.isfinite(values).all())


def _shown(name: str) -> str:
    """A name from the file, as short as a message may be."""
    return repr(name if len(name) <= 200 else f"{name[:200]}…")
