"""Change counter: tells stale cached answers from fresh ones, per adapter."""

MAX_ADAPTERS = 100_000  # about 10 MB
SERVED_NAMES = "/names"  # instead of an adapter's name: what any served name means


class ChangeCounter:
    """Counts changes. A cached answer is valid until its adapter changes.

    Stamp an answer with `count` before reading it from the database: an answer that was read while
    a change of its adapter was committed is then never valid.
    """

    def __init__(self, *, max_adapters: int = MAX_ADAPTERS) -> None:
        self.count = 0
        self._max_adapters = max_adapters
        self._all_changed = 0
        self._changed: dict[str, int] = {}

    def record(self, *adapters: str) -> None:
        """Record a change that affects these adapters only; without any, all."""
        self.count += 1
        if not adapters or len(self._changed) + len(adapters) > self._max_adapters:
            self._changed.clear()
            self._all_changed = self.count
        else:
            self._changed.update(dict.fromkeys(adapters, self.count))

    def last_change(self, adapter: str) -> int:
        """Value of `count` after the adapter's last change."""
        return self._changed.get(adapter, self._all_changed)
