"""Checkpoints of a job's attempt, which an observer sees."""

from collections.abc import Callable
from enum import StrEnum


class Checkpoint(StrEnum):
    """Points at which the observer is called, in order. Work done by then survives a crash."""

    FETCHING = "fetching"
    FETCHED = "fetched"  # of a small upload: in the thread that takes it, as the next one
    INSPECTED = "inspected"
    KEPT = "kept"
    WRITTEN = "written"  # the version's row, not yet committed; SQLite: in the connection's thread
    PUBLISHED = "published"


CheckpointObserver = Callable[[int, Checkpoint], None]


def null_checkpoint_observer(number: int, checkpoint: Checkpoint) -> None:
    """Null observer."""
