"""Which answers may be stale: changes counted, and by adapter."""

MAX_ADAPTERS = 100_000  # about 10 MB


class ChangeCounter:
    """Each change begins a new generation. An answer holds for as long as its adapter is the same.

    It is stamped with the generation in which it was asked for, before the database was asked: so
    one that was read while somebody committed a change of its adapter never holds.
    """

    def __init__(self, *, max_adapters: int = MAX_ADAPTERS) -> None:
        self.count = 0
        self._max_adapters = max_adapters
        self._all_changed = 0
        self._changed: dict[str, int] = {}

    def record(self, *adapters: str) -> None:
        """Something has changed that is said of these adapters only; without any, of all."""
        self.count += 1
        if not adapters or len(self._changed) + len(adapters) > self._max_adapters:
            self._changed.clear()
            self._all_changed = self.count
        else:
            self._changed.update(dict.fromkeys(adapters, self.count))

    def last_change(self, adapter: str) -> int:
        """The generation that the adapter's last change began."""
        return self._changed.get(adapter, self._all_changed)
