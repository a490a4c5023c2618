"""Counted work: how many calls a piece of code makes, which no slow machine changes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class CountedWork:
    """The calls of one thread, of Python's functions and of C's."""

    def __init__(self, at_most: int) -> None:
        self.calls = 0
        self._at_most = at_most

    def count(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "c_call"):
            return
        self.calls += 1
        if self.calls > self._at_most:
            sys.setprofile(None)
            raise AssertionError(f"more than {self._at_most} calls")


@contextmanager
def counted_work(at_most: int) -> Iterator[CountedWork]:
    """Ends the block with an AssertionError once it has made more: it might never end."""
    before, work = sys.getprofile(), CountedWork(at_most)
    sys.setprofile(work.count)
    try:
        yield work
    finally:
        sys.setprofile(before)
    assert work.calls <= at_most, "the code may have caught what ended it"
