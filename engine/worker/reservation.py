"""How much pinned memory a worker takes at the start, so that no load has to wait for any."""

from typing import Any

import psutil

from engine.worker.layout_tracer import stacked_tensors

_SHARE_OF_AVAILABLE = 4
_ON_THEIR_WAY = 2  # adapters that are staged while the tier is full


def reservation(tiers: Any, ranks: int, host_bytes: int | None) -> int:
    """Bytes for as many of the largest adapters as the host tier may hold, and those on their way.

    Every rank reads the whole file, and its slots hold its own part. Never more than the tier's
    budget, nor than a quarter of the memory that is available now: the arena can still grow.
    """
    slot_bytes = sum(t[0].numel() * t.element_size() for t in stacked_tensors(tiers))
    largest = slot_bytes * ranks
    wanted = largest * tiers.capacity if host_bytes is None else host_bytes // ranks
    most = psutil.virtual_memory().available // _SHARE_OF_AVAILABLE // ranks
    return int(min(wanted + largest * _ON_THEIR_WAY, most))
