"""Content digest: over what decides an adapter's answers, however its files are written.

PEFT saves `target_modules` in another order each time, and tools write JSON and safetensors headers
in ways of their own. The digest of the files changes with that; this one does not.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from registry.inspection.peft_config import CONFIG_FILE, HARMLESS
from registry.inspection.safetensors_header import WEIGHTS_FILE, TensorInfo, read_header
from registry.inspection.tensor_reader import read_chunks
from registry.inspection.tensors import sort_tensors

# Determined which tensors exist and what they were before training.
_IN_THE_TENSORS = HARMLESS | {"target_modules", "init_lora_weights"}


def content_digest(folder: Path) -> str:
    """blake3 as 64 hexadecimal digits, of an adapter that inspection accepts.

    Raises OSError, ValueError, InvalidAdapter or Truncated if the files are not those of one.
    """
    header = read_header(folder / WEIGHTS_FILE)
    raw = json.loads((folder / CONFIG_FILE).read_bytes())
    return digest_of(folder, raw, header, sort_tensors(header).repeated)


def digest_of(
    folder: Path,
    raw: Mapping[str, Any],
    header: Mapping[str, TensorInfo],
    repeated: Mapping[str, TensorInfo],
) -> str:
    """The same of an adapter whose configuration and header were read.

    `repeated`: tensors that repeat the base model's, as `sort_tensors` finds them.
    """
    unused = {id(tensor) for tensor in repeated.values()}
    hasher = blake3(_canonical_json(_settings(raw)))
    with (folder / WEIGHTS_FILE).open("rb") as file:
        for name, tensor in sorted(header.items()):
            if id(tensor) in unused:
                continue
            hasher.update(_canonical_json(_description(name, tensor)))
            for chunk in read_chunks(file, tensor):
                hasher.update(chunk)
    return hasher.hexdigest()


def _settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that may matter, without those that are off: newer versions of PEFT add such."""
    fields = dict(_used(raw))
    fields["lora_alpha"] = float(raw["lora_alpha"])
    if fields.get("bias") == "none":
        del fields["bias"]
    return fields


def _used(raw: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        if not value or name in _IN_THE_TENSORS:
            continue
        if name in ("rank_pattern", "alpha_pattern"):  # the first key that matches counts
            yield name, list(value.items())
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            yield name, sorted(value)  # from a set
        else:
            yield name, value


def _description(name: str, tensor: TensorInfo) -> list[Any]:
    return [name, tensor.dtype, list(tensor.shape)]


def _canonical_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
