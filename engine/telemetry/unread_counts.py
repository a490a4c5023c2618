"""Unread counts: what each request counts, in one dictionary until the metrics are read.

A counter of prometheus_client takes a microsecond for each increment, a histogram two.
"""

import threading


class UnreadCounts:
    """Counts by label, added in one thread and taken in any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, label: str) -> None:
        with self._lock:
            self._counts[label] = self._counts.get(label, 0) + 1

    def take(self) -> dict[str, int]:
        """All since the last time."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts
