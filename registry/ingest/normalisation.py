"""Normalisation of fetched weights: the header is written again with PEFT's tensor names.

vLLM reads the store's file by itself and refuses `.lora_A.default.weight`, which is what a model's
`state_dict()` has.
"""

import json
from dataclasses import replace
from pathlib import Path

from registry.errors import InvalidAdapter
from registry.errors.defects import Remark
from registry.inspection.safetensors_header import WEIGHTS_FILE, read_entries, read_header
from registry.inspection.tensor_names import examples, normalise
from registry.inspection.tensors import quote_name
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.quarantine import CHUNK_BYTES, QuarantineWriter

_ORIGINAL = "original.safetensors"
_ALIGNMENT = 8


def normalise_names(folder: Path, fetched: FetchedSource, progress: Progress) -> FetchedSource:
    """Write the weights again if their names have another form, else return `fetched`.

    Raises Stopped, OSError.
    """
    weights = folder / WEIGHTS_FILE
    try:
        renamed = normalise(read_header(weights))
    except (InvalidAdapter, FileNotFoundError):
        return fetched  # inspection says what is wrong
    if renamed is None:
        return fetched
    original = weights.rename(folder / _ORIGINAL)
    writer = QuarantineWriter(folder, FetchLimits(original.stat().st_size * 2), progress)
    entries, data_start = read_entries(original)
    header = json.dumps({renamed.get(name, name): entry for name, entry in entries.items()})
    padded = header.encode() + b" " * (-len(header) % _ALIGNMENT)
    with original.open("rb") as source, writer.open(WEIGHTS_FILE) as target:
        target.write(len(padded).to_bytes(8, "little") + padded)
        source.seek(data_start)
        while chunk := source.read(CHUNK_BYTES):
            target.write(chunk)
    original.unlink()
    old, new = examples(renamed)
    others = [file for file in fetched.files if file.name != WEIGHTS_FILE]
    detail = f"tensors are stored under PEFT's names: {quote_name(old)} as {quote_name(new)}"
    return replace(
        fetched,
        files=(*others, *writer.finish().files),
        remarks=(*fetched.remarks, (Remark.NAMES_NORMALISED, detail)),
    )
