"""Ready ahead: how many adapters are made ready for the slots before others are loaded. Pure."""

from dataclasses import dataclass

_FEWER_PER_LOAD = 1 / 8


@dataclass(frozen=True, slots=True)
class Batching:
    """How few adapters are made ready where a queue stands, and how many after a pause, if there
    are fewer slots; and of how many slots one drains at a time where a queue stands.
    """

    least_ready: int = 2
    most_ready: int = 8
    slots_per_drain: int = 2


SHIPPED = Batching()


class ReadyAhead:
    """A load waits while so many adapters with older requests wait in host memory for a slot.

    What is loaded late serves more requests with one load, and what leaves for it is used until
    then. So a standing queue comes to have only a few that are ready. But hot adapters drain for
    what is in host memory, and many may when a burst comes: so there are as many as slots, and at
    least `most_ready`, after a pause, and for requests that have waited too long: docs/policy.md.
    """

    def __init__(self, slots: int, batching: Batching) -> None:
        self._least = float(batching.least_ready)
        self.most = max(batching.most_ready, slots)
        """For an adapter whose oldest request has waited too long."""
        self._count = float(self.most)
        self.count = self.most
        """For others."""

    @property
    def queue_stands(self) -> bool:
        """So many loads have not met a pause that as few as can be are made ready."""
        return self._count <= self._least

    def note_pause(self) -> None:
        """Nothing waits. All that is wanted may be in host memory then, and nothing be loaded."""
        self.count, self._count = self.most, float(self.most)

    def begin_load(self, *, alone: bool) -> None:
        """`alone`: no other adapter waits."""
        self._count = max(self._count - _FEWER_PER_LOAD, self._least)
        self.count = int(self._count)
        if alone:
            self.note_pause()
