"""Cache of catalog answers, invalidated per adapter by the change counter."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache

from registry.database.change_counter import ChangeCounter

Value = TypeVar("Value")

MAX_ENTRIES = 50_000


class ChangeSource(Protocol):
    """Source of change notices: the catalog."""

    @property
    def changes(self) -> ChangeCounter: ...

    async def poll_changes(self) -> None: ...


class ResolutionCache(Generic[Value]):
    """Caches a value until its adapter changes; errors are not cached.

    Changes by this process take effect immediately, those by another one within about a second.
    During a database outage cached values stay valid.
    """

    def __init__(self, catalog: ChangeSource, *, max_entries: int = MAX_ENTRIES) -> None:
        self._catalog = catalog
        self._entries: LRUCache[Hashable, tuple[int, Value]] = LRUCache(max_entries)

    async def get(self, adapter: str, key: Hashable, load: Callable[[], Awaitable[Value]]) -> Value:
        """The value for `key`, which depends on this adapter only."""
        await self._catalog.poll_changes()
        changes = self._catalog.changes
        try:
            stamp, known = self._entries[key]  # its `get` looks twice
        except KeyError:
            pass
        else:
            if stamp >= changes.last_change(adapter):
                return known
        loaded_at = changes.count
        value = await load()
        self._entries[key] = loaded_at, value
        return value
