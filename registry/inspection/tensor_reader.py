"""Tensor reader: checks values in chunks, in bounded memory and one pass.

Values are checked by their bits, as numpy lacks three of the formats.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from registry.inspection.safetensors_header import TensorInfo

Array = np.ndarray[Any, Any]

CHUNK_BYTES = 4 * 2**20  # a multiple of every item size, so that no number is cut in two

# unsigned type of the same width, bits that are all set in NaN and infinity, all bits but the sign
_BITS = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF),
    "F32": ("<u4", 0x7F80_0000, 0x7FFF_FFFF),
    "F16": ("<u2", 0x7C00, 0x7FFF),
    "BF16": ("<u2", 0x7F80, 0x7FFF),
    "F8_E5M2": ("u1", 0x7C, 0x7F),
    "F8_E4M3": ("u1", 0x7F, 0x7F),  # has NaN only, as this one bit pattern
}
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_WIDENED = frozenset({*_NUMPY, "BF16"})

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
}
"""Supported formats of saved adapters, with PyTorch's names."""


class Truncated(Exception):
    """The file ends within a tensor."""


def is_finite(file: BinaryIO, tensor: TensorInfo) -> bool:
    """Neither NaN nor infinity in it. Raises Truncated."""
    return all(_all_finite(chunk, tensor.dtype) for chunk in read_chunks(file, tensor))


def is_zero(file: BinaryIO, tensor: TensorInfo) -> bool:
    """Nothing but zeros in it; ends at the first other number. Raises Truncated."""
    return all(_all_zero(chunk, tensor.dtype) for chunk in read_chunks(file, tensor))


def same_values(file: BinaryIO, tensor: TensorInfo, path: Path, other: TensorInfo) -> bool:
    """Whether two tensors have the same values, even if one has a wider format.

    Raises Truncated, or OSError if `path` can't be read.
    """
    if tensor.shape != other.shape or not _WIDENED.issuperset({tensor.dtype, other.dtype}):
        return False
    with path.open("rb") as other_file:
        pairs = zip(_values(file, tensor), _values(other_file, other), strict=True)
        with np.errstate(invalid="ignore"):  # some NaN warn when they are converted
            return all(np.array_equal(one, two) for one, two in pairs)


def read_chunks(
    file: BinaryIO, tensor: TensorInfo, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[bytes]:
    """The tensor's bytes. Raises Truncated."""
    position, left = tensor.offset_bytes, tensor.size_bytes
    while left:
        file.seek(position)
        chunk = file.read(min(left, chunk_bytes))
        if len(chunk) < min(left, chunk_bytes):
            raise Truncated
        position += len(chunk)
        left -= len(chunk)
        yield chunk


def _values(file: BinaryIO, tensor: TensorInfo) -> Iterator[Array]:
    """The numbers as float64, the same count in each chunk whatever the format."""
    items = tensor.size_bytes // max(1, _count(tensor))
    for chunk in read_chunks(file, tensor, CHUNK_BYTES // 8 * items):
        if tensor.dtype == "BF16":
            yield (np.frombuffer(chunk, "<u2").astype("<u4") << 16).view("<f4").astype("<f8")
        else:
            yield np.frombuffer(chunk, _NUMPY[tensor.dtype]).astype("<f8")


def _count(tensor: TensorInfo) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


def _all_finite(chunk: bytes, dtype: str) -> bool:
    kind, special, _ = _BITS[dtype]
    return not bool(np.any((np.frombuffer(chunk, kind) & special) == special))


def _all_zero(chunk: bytes, dtype: str) -> bool:
    kind, _, magnitude = _BITS[dtype]
    return not bool(np.any(np.frombuffer(chunk, kind) & magnitude))
