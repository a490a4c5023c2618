"""Least recently used: the default."""

from collections import OrderedDict
from collections.abc import Iterator

from engine.types import VersionId


class LruOrder:
    """What was granted or released last leaves last. Every operation is O(1)."""

    def __init__(self) -> None:
        self._versions: OrderedDict[VersionId, None] = OrderedDict()

    def insert(self, version: VersionId) -> None:
        self._versions[version] = None

    def touch(self, version: VersionId, *, granted: bool) -> None:
        self._versions.move_to_end(version)

    def remove(self, version: VersionId) -> None:
        self._versions.pop(version, None)

    def clear(self) -> None:
        self._versions.clear()

    def in_order(self) -> Iterator[VersionId]:
        return iter(self._versions)
