"""The registry's answers, kept while they hold."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache

from registry.database.change_counter import ChangeCounter

Value = TypeVar("Value")

MAX_ENTRIES = 50_000


class ChangeSource(Protocol):
    """Who is asked: the catalog."""

    @property
    def changes(self) -> ChangeCounter: ...

    async def poll_changes(self) -> None: ...


class ResolutionCache(Generic[Value]):
    """Asks once, until what is asked about changes; refusals are asked anew each time.

    What this process changes counts at once, what another one changes within about a second, also
    where the database is away: then what was asked before goes on being answered.
    """

    def __init__(self, catalog: ChangeSource, *, max_entries: int = MAX_ENTRIES) -> None:
        self._catalog = catalog
        self._entries: LRUCache[Hashable, tuple[int, Value]] = LRUCache(max_entries)

    async def get(self, adapter: str, key: Hashable, load: Callable[[], Awaitable[Value]]) -> Value:
        """The answer to `key`, which is about this adapter alone."""
        await self._catalog.poll_changes()
        changes = self._catalog.changes
        found = self._entries.get(key)
        if found is not None and found[0] >= changes.last_change(adapter):
            return found[1]
        loaded_at = changes.count
        value = await load()
        self._entries[key] = loaded_at, value
        return value
