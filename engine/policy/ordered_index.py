"""Ordered indexes: versions by a key that changes, the lowest first. Pure."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Set
from heapq import heapify, heappop, heappush
from typing import Any

from engine.types import VersionId

EvictionKey = tuple[float, ...]
_Entry = tuple[Any, ...]  # a key, then its version

_MIN_STALE = 16


class OrderedIndex:
    """Versions by a key, the lowest first. Changes cost O(log n); reading k of them, O(k log k).

    A heap with stale entries: one counts only if it is the version's present one. An entry is the
    key and then the version, in one tuple: that takes half as long to compare as a key in a tuple.
    """

    def __init__(self) -> None:
        self._present: dict[VersionId, tuple[_Entry, int]] = {}  # with its bytes
        self._heap: list[_Entry] = []
        self.versions: Set[VersionId] = self._present.keys()  # in no order; tested in each plan
        self.total_bytes = 0

    def __len__(self) -> int:
        return len(self._present)

    def put(self, version: VersionId, key: EvictionKey, size_bytes: int = 0) -> None:
        """Add it, or change its key or size. No key is the beginning of another."""
        present, heap, entry = self._present, self._heap, (*key, version)
        if (before := present.get(version)) is None:
            if size_bytes:
                self.total_bytes += size_bytes
        else:
            self.total_bytes += size_bytes - before[1]
            if before[0] == entry:
                present[version] = (before[0], size_bytes)
                return
        present[version] = (entry, size_bytes)
        heappush(heap, entry)
        if len(heap) > 2 * len(present) + _MIN_STALE:
            self._heap = [entry for entry, _ in present.values()]
            heapify(self._heap)

    def discard(self, version: VersionId) -> None:
        present = self._present.pop(version, None)
        if present is not None:
            self.total_bytes -= present[1]

    def clear(self) -> None:
        self._present.clear()
        self._heap.clear()
        self.total_bytes = 0

    def first(self) -> VersionId | None:
        heap, present = self._heap, self._present
        while heap:
            entry = heap[0]
            version: VersionId = entry[-1]
            if (counting := present.get(version)) is not None and counting[0] is entry:
                return version
            heappop(heap)
        return None

    def __iter__(self) -> Iterator[VersionId]:
        """In order. Lazy: change nothing meanwhile."""
        if len(self._present) < 2:  # idle slots, where a queue stands
            yield from self._present
            return
        self.first()  # drops stale entries, which would be passed by each iteration
        heap, present = self._heap, self._present
        frontier = [(heap[0], 0)] if heap else []
        while frontier:
            entry, at = heappop(frontier)
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(heap):
                    heappush(frontier, (heap[child], child))
            version: VersionId = entry[-1]
            counting = present.get(version)
            if counting is not None and counting[0] is entry:
                yield version


class SortedIndex:
    """Versions by a key, of which the one at any place can be read directly.

    Changes move memory in proportion to its length: for hundreds of versions, not for thousands.
    """

    def __init__(self) -> None:
        self._keys: dict[VersionId, EvictionKey] = {}
        self._sorted: list[tuple[EvictionKey, VersionId]] = []
        self.versions: Set[VersionId] = self._keys.keys()

    def __len__(self) -> int:
        return len(self._sorted)

    def put(self, version: VersionId, key: EvictionKey, size_bytes: int = 0) -> None:
        """Add it, or change its key. The size is of no use here."""
        before = self._keys.get(version)
        if before != key:
            if before is not None:
                self.discard(version)
            self._keys[version] = key
            insort(self._sorted, (key, version))

    def discard(self, version: VersionId) -> None:
        key = self._keys.pop(version, None)
        if key is not None:
            del self._sorted[bisect_left(self._sorted, (key, version))]

    def clear(self) -> None:
        self._keys.clear()
        self._sorted.clear()

    def first(self) -> VersionId | None:
        return self._sorted[0][1] if self._sorted else None

    def key_at(self, place: int) -> EvictionKey:
        """Of the one at this place; there is one."""
        return self._sorted[place][0]

    def __iter__(self) -> Iterator[VersionId]:
        """In order. Lazy: change nothing meanwhile."""
        return (version for _, version in self._sorted)
