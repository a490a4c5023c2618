"""Counts of a span: what the cache did, over all adapters and for each."""

from collections.abc import Iterable, Mapping

from engine.events import (
    CacheEvent,
    Drained,
    Evicted,
    LoadFailed,
    LookedUp,
    MovedIn,
    Refused,
)
from engine.types import CacheOutcome, Tier, Transition

COUNTED = (
    "hits",
    "host_hits",
    "misses",
    "refused",
    "loads",
    "load_failures",
    "activations",
    "evictions",
    "host_evictions",
    "drains",
    "waits",
    "waited_seconds",
)
"""What is added up. `evictions` are those from slots; `waits` are of requests that had to wait."""
LONGEST = "longest_wait_seconds"
WAIT_SECONDS = 0.001  # a shorter wait is none

_LOOKUPS = {
    CacheOutcome.GPU_HIT: "hits",
    CacheOutcome.HOST_HIT: "host_hits",
    CacheOutcome.MISS: "misses",
}

Counts = dict[str, float]


def add_event(counts: Counts, event: CacheEvent) -> None:
    match event:
        case LookedUp(outcome=outcome, wait_seconds=seconds):
            _add(counts, _LOOKUPS[outcome])
            if seconds >= WAIT_SECONDS:
                _add(counts, "waits")
                _add(counts, "waited_seconds", seconds)
                counts[LONGEST] = max(counts.get(LONGEST, 0.0), seconds)
        case Refused():
            _add(counts, "refused")
        case MovedIn(transition=transition):
            _add(counts, "loads" if transition is Transition.DISK_TO_HOST else "activations")
        case LoadFailed():
            _add(counts, "load_failures")
        case Evicted(tier=tier):
            _add(counts, "evictions" if tier is Tier.GPU else "host_evictions")
        case Drained():
            _add(counts, "drains")


def _add(counts: Counts, name: str, number: float = 1) -> None:
    counts[name] = counts.get(name, 0) + number


def add_up(many: Iterable[Mapping[str, float]]) -> Counts:
    """Those that are 0 are left out."""
    total: Counts = {}
    for counts in many:
        for name, number in counts.items():
            if name == LONGEST:
                total[name] = max(total.get(name, 0.0), number)
            else:
                _add(total, name, number)
    return total
