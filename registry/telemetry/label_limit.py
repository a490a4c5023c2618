"""Limit on metrics labels: thousands of adapters would be too many series for Prometheus."""

from collections.abc import Callable

# No adapter can have these names.
OTHER_ADAPTERS = "_other"
UNKNOWN_ADAPTER = "_unknown"


class LabelLimit:
    """The first `most` adapters that are asked for keep their label; the rest share `_other`.

    A label is never taken away again: its counters would go backwards, and come back at 0.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._named: set[str] = set()
        self.on_new: list[Callable[[str], None]] = []

    @property
    def named(self) -> frozenset[str]:
        """The adapters that have one."""
        return frozenset(self._named)

    def of(self, adapter: str) -> str:
        """The label that this adapter is counted under."""
        if adapter in self._named or adapter == UNKNOWN_ADAPTER:
            return adapter
        if len(self._named) >= self._most:
            return OTHER_ADAPTERS
        self._named.add(adapter)
        for callback in self.on_new:
            callback(adapter)
        return adapter
