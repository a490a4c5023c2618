"""Safetensors files of adapters: the header, and the data read straight into place.

The safetensors format: 8 bytes with the header's length (little endian), a JSON header, the data
section (https://huggingface.co/docs/safetensors).
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cachetools import LRUCache

from engine.worker.parallel_read import EndOfFile, read_ranges
from engine.worker.slot_layout import Read

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MAX_HEADER_BYTES = 100 * 2**20
_MAX_KNOWN_BYTES = 2**21  # of headers: parsed, one takes 4 times as much

_MIXTURE = (".experts.lora_A.weight", ".experts.base_layer.lora_A.weight")

# They say nothing about where the weights belong.
_IGNORED_KEYS = frozenset(
    {"base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version"}
    | {"alora_invocation_tokens"}  # when it acts, not where
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A parsed header, which nothing changes, and its kind. `header_bytes`: of its text.

    `data_bytes`: where its last tensor ends.
    """

    entries: Mapping[str, Any]
    name: str
    header_bytes: int
    data_bytes: int


# By the digest of header and configuration. One that is larger than all is not kept.
_kinds: LRUCache[bytes, _Kind] = LRUCache(_MAX_KNOWN_BYTES, getsizeof=lambda k: k.header_bytes)
_lock = threading.Lock()


class Unreadable(Exception):
    """The file has changed since registration, or is of a kind that only vLLM may know."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Position of a tensor in the data section."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    def view_of(self, image: torch.Tensor) -> torch.Tensor:
        """`image`: (bytes,) uint8, the data section."""
        return image[self.start : self.end].view(self.dtype).view(self.shape)


@dataclass(frozen=True, slots=True)
class OpenAdapter:
    """An open weights file. `kind` is equal for adapters whose bytes belong in the same places."""

    descriptor: int
    data_start: int
    size_bytes: int  # of the data section
    header: Mapping[str, Any]  # without `__metadata__`
    kind: str

    def tensors(self) -> Mapping[str, StoredTensor]:
        """Raises Unreadable for a dtype or an alignment that can't be viewed in place."""
        return {name: _stored_tensor(name, entry) for name, entry in self.header.items()}

    def read_into(self, memory: torch.Tensor, reads: Sequence[Read], threads: int = 1) -> None:
        """Read ranges of the data section, without the GIL. `memory`: (bytes,) uint8 on the host.

        Raises Unreadable if the file ends before.
        """
        view = memoryview(memory.numpy())
        try:
            read_ranges(self.descriptor, self.data_start, reads, view, threads)
        except EndOfFile as error:
            raise Unreadable("the file is shorter than its header says") from error


def _stored_tensor(name: str, entry: Mapping[str, Any]) -> StoredTensor:
    dtype = _DTYPES.get(entry["dtype"])
    start, end = entry["data_offsets"]
    if dtype is None or start % dtype.itemsize:
        raise Unreadable(f"{name} can't be viewed in place")
    return StoredTensor(dtype, tuple(entry["shape"]), start, end)


@contextmanager
def open_adapter(folder: str) -> Iterator[OpenAdapter]:
    """Raises OSError if a file is missing, Unreadable if it is not a safetensors file."""
    config = Path(folder, CONFIG).read_bytes()
    descriptor = os.open(Path(folder, WEIGHTS), os.O_RDONLY | os.O_CLOEXEC)
    try:
        length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
        if not 0 < length <= _MAX_HEADER_BYTES:
            raise Unreadable("the file does not begin with a safetensors header")
        header = os.pread(descriptor, length, 8)
        size_bytes = os.fstat(descriptor).st_size - 8 - length
        if len(header) < length or size_bytes <= 0:
            raise Unreadable("the file is shorter than its header says")
        kind = _read_kind(header, config)
        if size_bytes < kind.data_bytes:  # of this file alone: others of its kind are whole
            raise Unreadable("the file is shorter than its header says")
        yield OpenAdapter(descriptor, 8 + length, size_bytes, kind.entries, kind.name)
    finally:
        os.close(descriptor)


def holds_mixtures(folder: str) -> bool:
    """Whether it has pairs for parameters of all experts of a mixture, as PEFT saves them.

    Raises as `open_adapter` does.
    """
    with open_adapter(folder) as adapter:
        return any(name.endswith(_MIXTURE) for name in adapter.header)


def _read_kind(header: bytes, config: bytes) -> _Kind:
    """Adapters trained alike have equal headers: parsing one takes longer than reading 20 MB."""
    texts = hashlib.sha256(header)
    texts.update(len(header).to_bytes(8) + config)
    with _lock:
        known = _kinds.get(texts.digest())
    if known is None:
        entries = _parse_header(header)
        kind = _kind(entries, json.loads(config))
        known = _Kind(entries, kind, len(header), _last_byte(entries))
        with _lock, suppress(ValueError):  # too large to be kept
            _kinds[texts.digest()] = known
    return known


def _parse_header(header: bytes) -> Mapping[str, Any]:
    """The tensors. Metadata is dropped: a time or a step in it would make each file a new kind."""
    try:
        entries = json.loads(header)
    except ValueError as error:
        raise Unreadable("the file does not begin with a safetensors header") from error
    if not isinstance(entries, dict):
        raise Unreadable("the file does not begin with a safetensors header")
    return {name: entry for name, entry in entries.items() if name != "__metadata__"}


def _last_byte(entries: Mapping[str, Any]) -> int:
    """Raises Unreadable."""
    try:
        return max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (TypeError, LookupError, ValueError) as error:
        raise Unreadable("the file does not begin with a safetensors header") from error


def _kind(header: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    relevant = {
        name: _sort_lists(config[name]) for name in sorted(config) if name not in _IGNORED_KEYS
    }
    digest = hashlib.sha256(json.dumps(header).encode())
    digest.update(json.dumps(relevant).encode())  # in rank_pattern the first matching key counts
    return digest.hexdigest()


def _sort_lists(value: Any) -> Any:
    """PEFT writes sets as lists in arbitrary order."""
    return sorted(map(str, value)) if isinstance(value, list) else value
