"""Limit on metrics labels: thousands of adapters would be too many series for Prometheus."""

from collections.abc import Callable

# No adapter can have these names.
OTHER_ADAPTERS = "_other"
UNKNOWN_ADAPTER = "_unknown"


class LabelLimit:
    """The first `most` adapters that are requested get a label; the rest share `_other`.

    A label is never removed: its counters would reset.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._named: set[str] = set()
        self.on_new: list[Callable[[str], None]] = []

    @property
    def named(self) -> frozenset[str]:
        """Adapters that have a label."""
        return frozenset(self._named)

    def of(self, adapter: str) -> str:
        """Label for this adapter."""
        if adapter in self._named or adapter == UNKNOWN_ADAPTER:
            return adapter
        if len(self._named) >= self._most:
            return OTHER_ADAPTERS
        self._named.add(adapter)
        for callback in self.on_new:
            callback(adapter)
        return adapter
