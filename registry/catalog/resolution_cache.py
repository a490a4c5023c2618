"""The registry's answers, kept while they hold."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache

from registry.database.change_counter import Generations

Answer = TypeVar("Answer")

MAX_ANSWERS = 50_000


class Changing(Protocol):
    """Who is asked: the catalog."""

    @property
    def generations(self) -> Generations: ...

    async def notice_changes(self) -> None: ...


class KeptAnswers(Generic[Answer]):
    """Asks once, until what is asked about changes; refusals are asked anew each time.

    What this process changes counts at once, what another one changes within about a second, also
    where the database is away: then what was asked before goes on being answered.
    """

    def __init__(self, catalog: Changing, *, max_entries: int = MAX_ANSWERS) -> None:
        self._catalog = catalog
        self._answers: LRUCache[Hashable, tuple[int, Answer]] = LRUCache(max_entries)

    async def get(
        self, adapter: str, key: Hashable, ask: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """The answer to `key`, which is about this adapter alone."""
        await self._catalog.notice_changes()
        generations = self._catalog.generations
        found = self._answers.get(key)
        if found is not None and found[0] >= generations.changed_in(adapter):
            return found[1]
        asked_in = generations.now
        answer = await ask()
        self._answers[key] = asked_in, answer
        return answer
