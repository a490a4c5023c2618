"""Begun work: an awaitable that has run up to its first wait. One that needs none costs no task."""

from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """`is_done`: it did not have to wait, and `result` is its. Otherwise it has to be awaited.

    What it raises before it waits is raised here.
    """

    __slots__ = ("_rest", "_waits_for", "is_done", "result")

    result: T

    def __init__(self, work: Awaitable[T]) -> None:
        self.is_done = False
        self._rest = work.__await__()
        try:
            self._waits_for = next(self._rest)
        except StopIteration as done:
            self.is_done = True
            self.result = done.value

    def __await__(self) -> Generator[Any, Any, T]:
        if self.is_done:
            return self.result
        waits_for = self._waits_for
        while True:
            try:
                yield waits_for
            except BaseException as error:  # it may handle a cancellation and go on
                try:
                    waits_for = self._rest.throw(error)
                except StopIteration as done:
                    value: T = done.value
                    return value
            else:
                return (yield from self._rest)
