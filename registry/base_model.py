"""What an adapter has to fit: the shapes of the base model's weights, from their own headers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.safetensors_header import TensorInfo, read_header

# Quantized weights may be packed, several to a number, so that the stored shape says nothing.
# GPTQ and AWQ, compressed-tensors, HQQ and AQLM name such tensors so; bitsandbytes and ModelOpt
# keep the name `weight` and store bytes.
_PACKED_NAMES = frozenset({"qweight", "weight_packed", "W_q", "codes"})
_PACKED_DTYPES = frozenset({"U8", "I32", "U32", "F4", "F6_E2M3", "F6_E3M2"})


@dataclass(frozen=True, slots=True)
class BaseModel:
    """`shapes` maps a module to (out_features, in_features); None where they aren't known."""

    name: str
    shapes: Mapping[str, tuple[int, int] | None] | None


def read_base_model(name: str, folder: Path | None) -> BaseModel:
    """Read the headers of all safetensors files in the folder.

    Without any (no folder, or weights in another format) adapters can't be checked for fit; of a
    layer with packed weights only its name is known.
    Raises InvalidAdapter if a file is broken.
    """
    files = sorted(folder.glob("*.safetensors")) if folder is not None else []
    shapes: dict[str, tuple[int, int] | None] = {}
    for file in files:
        for tensor_name, tensor in read_header(file).items():
            module, dot, kind = tensor_name.rpartition(".")
            if dot and (kind in _PACKED_NAMES or (kind == "weight" and len(tensor.shape) == 2)):
                shapes[module] = None if _is_packed(kind, tensor) else _matrix(tensor)
    return BaseModel(name, shapes or None)


def _is_packed(kind: str, tensor: TensorInfo) -> bool:
    return kind in _PACKED_NAMES or tensor.dtype in _PACKED_DTYPES


def _matrix(tensor: TensorInfo) -> tuple[int, int]:
    return tensor.shape[0], tensor.shape[1]
