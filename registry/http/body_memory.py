"""Body memory: one bound for all request bodies at work; no caller gets more than it leaves.

A body's memory is taken by its declared length before any byte of it is read, and given back when
its request ends. Senders that are slow lose it to others, once it is used up.
"""

from collections.abc import Callable, Hashable
from typing import Protocol

from registry.auth.sender import current_sender
from registry.errors import BodyMemoryFull


class BodyReader(Protocol):
    """What reads a body from its client."""

    def is_slow(self) -> bool:
        """Whether its client may be given up for others."""

    def give_up(self) -> None: ...


class BodyMemory:
    """For the bodies of one server. To be used from its event loop only."""

    def __init__(self, max_bytes: int, sender: Callable[[], Hashable] = current_sender) -> None:
        self._free_bytes = max_bytes
        self._sender = sender
        self._of: dict[Hashable, int] = {}
        self._reading: set[BodyShare] = set()

    @property
    def free_bytes(self) -> int:
        return self._free_bytes

    def share(self, reader: BodyReader) -> "BodyShare":
        """Of the current request; nothing of the memory yet."""
        share = BodyShare(self, self._sender(), reader)
        self._reading.add(share)
        return share

    def take(self, share: "BodyShare", size_bytes: int) -> None:
        """Raises BodyMemoryFull."""
        sender = share.sender
        if not self._has_room(sender, size_bytes):
            self._give_up_slow(share, size_bytes)
            if not self._has_room(sender, size_bytes):
                raise BodyMemoryFull
        self._add(sender, size_bytes)

    def give_back(self, share: "BodyShare", size_bytes: int) -> None:
        self._reading.discard(share)
        self._add(share.sender, -size_bytes)

    def end_reading(self, share: "BodyShare") -> None:
        self._reading.discard(share)

    def _has_room(self, sender: Hashable, size_bytes: int) -> bool:
        """A caller alone gets half: others always find as much as it has."""
        return self._of.get(sender, 0) + size_bytes <= self._free_bytes

    def _give_up_slow(self, wanted: "BodyShare", size_bytes: int) -> None:
        """Those first that hold most, and none of callers that hold less than the new one would."""
        would_hold = self._of.get(wanted.sender, 0) + size_bytes
        for share in sorted(self._reading, key=lambda each: -each.size_bytes):
            if self._has_room(wanted.sender, size_bytes):
                return
            may_lose = share.sender == wanted.sender or self._of[share.sender] >= would_hold
            if share is not wanted and share.size_bytes and may_lose and share.reader.is_slow():
                share.reader.give_up()
                share.give_back()

    def _add(self, sender: Hashable, size_bytes: int) -> None:
        self._free_bytes -= size_bytes
        self._of[sender] = self._of.get(sender, 0) + size_bytes
        if not self._of[sender]:
            del self._of[sender]


class BodyShare:
    """What one body has of the memory."""

    def __init__(self, memory: BodyMemory, sender: Hashable, reader: BodyReader) -> None:
        self._memory = memory
        self.sender = sender
        self.reader = reader
        self.size_bytes = 0

    def grow_to(self, size_bytes: int) -> None:
        """Raises BodyMemoryFull."""
        if size_bytes > self.size_bytes:
            self._memory.take(self, size_bytes - self.size_bytes)
            self.size_bytes = size_bytes

    def end_reading(self) -> None:
        """It is complete: its client can't be slow any more."""
        self._memory.end_reading(self)

    def give_back(self) -> None:
        """For the second time: nothing."""
        self._memory.give_back(self, self.size_bytes)
        self.size_bytes = 0
