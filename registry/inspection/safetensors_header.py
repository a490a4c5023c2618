"""Safetensors header reader; every field is checked.

Format: 8 bytes little-endian header length, a JSON object `{name: {dtype, shape, data_offsets}}`,
then the tensors' bytes, without holes. Source: the safetensors format description.
"""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect

WEIGHTS_FILE = "adapter_model.safetensors"
PICKLE_FILE = "adapter_model.bin"
MAX_HEADER_BYTES = 25 * 2**20
MAX_DIMENSIONS = 8
MAX_DIMENSION = 2**40
MAX_NAME_LENGTH = 1024

# JSON may contain a lone surrogate, which can't be encoded in a response
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")

_ITEM_BITS = {
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 8),
    **dict.fromkeys(("F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


# What a clone without Git LFS has instead of a file
_LFS_MARKS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
)
_LONGEST_MARK = max(map(len, _LFS_MARKS))


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Location of one tensor. `offset_bytes` counts from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Every tensor by name. Costs one read of the header, whatever the file's size.

    Raises InvalidAdapter: `lfs_pointer`, `header_invalid`, `dtype_unsupported` or
    `tensor_out_of_bounds`.
    """
    with path.open("rb") as file:
        file_bytes = os.fstat(file.fileno()).st_size
        start = file.read(_LONGEST_MARK)
        check_no_pointer(start, path.name)
        file.seek(8)
        length = int.from_bytes(start[:8], "little")
        if file_bytes < 8 or length > min(MAX_HEADER_BYTES, file_bytes - 8):
            _invalid(path, "its header is longer than the file or than we read")
        raw = file.read(length)
    data_start = 8 + length
    entries = _parse(path, raw)
    tensors = {
        name: _tensor(path, name, entry, data_start)
        for name, entry in entries.items()
        if name != "__metadata__"
    }
    _check_layout(path, tensors, data_start, file_bytes)
    return tensors


def check_no_pointer(start: bytes, name: str) -> None:
    """`start`: the file, or its first bytes. Raises InvalidAdapter: `lfs_pointer`."""
    if start.startswith(_LFS_MARKS):
        detail = f"{name} is a pointer of Git LFS, not the file: run `git lfs pull`"
        raise InvalidAdapter(Defect.LFS_POINTER, detail)


def read_entries(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a file that `read_header` accepts, as it is, and where the data starts."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return _parse(path, file.read(length)), 8 + length


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_int=_natural
        )
    except (ValueError, RecursionError):
        _invalid(path, "its header is not JSON, or names something twice")
    if not isinstance(entries, dict):
        _invalid(path, "its header is not a JSON object")
    if not _is_metadata(entries.get("__metadata__")):
        _invalid(path, "its metadata are not texts by name")
    return entries


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands twice")
    return content


def _natural(digits: str) -> int:
    if digits.startswith("-"):  # safetensors refuses even -0
        raise ValueError("a negative number")
    return int(digits)


def _is_metadata(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and all(_is_text(text) for item in value.items() for text in item)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _HALF_CHARACTER.search(value)


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> TensorInfo:
    if not _is_text(name) or len(name) > MAX_NAME_LENGTH:
        _invalid(path, f"{_quote(name)} is no name of a tensor")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _invalid(path, f"{_quote(name)} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BITS:
        raise InvalidAdapter(
            Defect.DTYPE_UNSUPPORTED,
            f"{path.name}: {_quote(name)} has the dtype {_quote(str(dtype))}",
        )
    if not _are_sizes(shape, MAX_DIMENSION) or len(shape) > MAX_DIMENSIONS:
        _invalid(path, f"{_quote(name)} has an impossible shape")
    if not _are_sizes(offsets, 2**62) or len(offsets) != 2:
        _invalid(path, f"{_quote(name)} has impossible offsets")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * _ITEM_BITS[dtype]:
        _invalid(path, f"{_quote(name)}: shape and bytes differ")
    return TensorInfo(dtype, tuple(shape), data_start + begin, end - begin)


def _are_sizes(value: Any, limit: int) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item <= limit for item in value
    )


def _check_layout(
    path: Path, tensors: dict[str, TensorInfo], data_start: int, file_bytes: int
) -> None:
    """The tensors must follow each other from the header's end to the file's end."""
    position = data_start
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset_bytes, t.size_bytes)):
        if tensor.offset_bytes != position:
            _out_of_bounds(path, "its tensors overlap or leave holes")
        position += tensor.size_bytes
    if position != file_bytes:
        _out_of_bounds(path, "it is shorter or longer than its tensors: cut off, perhaps")


def _invalid(path: Path, why: str) -> NoReturn:
    raise InvalidAdapter(Defect.HEADER_INVALID, f"{path.name} can't be read: {why}")


def _out_of_bounds(path: Path, why: str) -> NoReturn:
    raise InvalidAdapter(Defect.TENSOR_OUT_OF_BOUNDS, f"{path.name} can't be read: {why}")


def _quote(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:120]}…")


def weights_file(folder: Path) -> Path:
    """The adapter's weights. Raises InvalidAdapter."""
    weights = folder / WEIGHTS_FILE
    if weights.is_file():
        return weights
    if (folder / PICKLE_FILE).is_file():
        raise InvalidAdapter(
            Defect.PICKLE_WEIGHTS,
            f"{PICKLE_FILE} is a pickle, which can run code: save as safetensors",
        )
    raise InvalidAdapter(Defect.WEIGHTS_MISSING, f"there is no {WEIGHTS_FILE}")
