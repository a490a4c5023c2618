"""Version map: bounded memory of versions, however many are ever used. Pure."""

from collections.abc import Callable
from typing import Generic, TypeVar

from engine.types import VersionId

T = TypeVar("T")

VERSIONS_REMEMBERED = 4096


class VersionMap(Generic[T]):
    """A value per version: of each that is needed, and of the last `VERSIONS_REMEMBERED` set.

    At most as many again await the next pass that forgets, so that a set costs O(1) on average.
    """

    def __init__(self, is_needed: Callable[[VersionId], bool]) -> None:
        self._is_needed = is_needed
        self._values: dict[VersionId, T] = {}  # the one set last at the end
        self.get: Callable[[VersionId], T | None] = self._values.get
        self._forget_at = 2 * VERSIONS_REMEMBERED

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, version: VersionId) -> T:
        return self._values[version]

    def put(self, version: VersionId, value: T) -> None:
        values = self._values
        values.pop(version, None)
        values[version] = value
        if len(values) > self._forget_at:
            self._forget()

    def _forget(self) -> None:
        oldest = list(self._values)[:-VERSIONS_REMEMBERED]
        for version in oldest:
            if not self._is_needed(version):
                del self._values[version]
        self._forget_at = len(self._values) + VERSIONS_REMEMBERED
