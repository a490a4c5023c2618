"""Hashing speed of the registry, compared with the digest library's own."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from registry.storage.integrity import manifest_digest, verify

Figures = dict[str, float]

SIZE_BYTES = 512 * 2**20
ROUNDS = 5
_CHUNK_BYTES = 4 * 2**20


def hashing(folder: Path) -> Figures:
    """One large file in the page cache. Measured alternately, as a machine's speed changes."""
    adapter = folder / "adapters" / "ab" / "abcd"
    adapter.mkdir(parents=True)
    file = adapter / "adapter_model.safetensors"
    block = os.urandom(_CHUNK_BYTES)
    with file.open("wb") as target:
        for _ in range(SIZE_BYTES // _CHUNK_BYTES):
            target.write(block)
    digest = manifest_digest([(file.name, SIZE_BYTES, _library_alone(file))])
    alone, ours = [], []
    for _ in range(ROUNDS):
        alone.append(_seconds(lambda: _library_alone(file)))
        os.utime(file)  # its fingerprint differs, so that it has to be hashed
        ours.append(_seconds(lambda: verify(adapter, digest)))
    return {
        "hashing, share of the library's speed": statistics.median(alone) / statistics.median(ours),
        "hashing, MiB/s": SIZE_BYTES / 2**20 / statistics.median(ours),
    }


def _library_alone(file: Path) -> str:
    hasher = blake3()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
