"""Answers that are kept: never after what they are about has changed."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from registry.catalog.resolution_cache import ResolutionCache
from registry.database.change_counter import ChangeCounter


class Source:
    """Counts the questions; `answer` is what is true now."""

    def __init__(self) -> None:
        self.changes = ChangeCounter()
        self.answer = "old"
        self.asked = 0
        self.before_telling: Callable[[], Awaitable[None]] | None = None

    async def poll_changes(self) -> None:
        """No other process changes anything."""

    async def ask(self) -> str:
        self.asked += 1
        read = self.answer
        if self.before_telling is not None:
            await self.before_telling()
        return read


@pytest.fixture
def source() -> Source:
    return Source()


async def test_a_question_is_asked_once(source: Source) -> None:
    cache = ResolutionCache[str](source)
    for _ in range(3):
        assert await cache.get("bot", "bot@prod", source.ask) == "old"
    assert source.asked == 1


async def test_a_change_of_its_adapter_ends_an_answer_and_one_of_another_does_not(
    source: Source,
) -> None:
    cache = ResolutionCache[str](source)
    await cache.get("bot", "bot", source.ask)
    source.answer = "new"
    source.changes.record("other")
    assert await cache.get("bot", "bot", source.ask) == "old"
    source.changes.record("other", "bot")
    assert await cache.get("bot", "bot", source.ask) == "new"
    assert source.asked == 2


async def test_a_change_of_unknown_extent_ends_all_answers(source: Source) -> None:
    cache = ResolutionCache[str](source)
    await cache.get("bot", "bot", source.ask)
    source.answer = "new"
    source.changes.record()
    assert await cache.get("bot", "bot", source.ask) == "new"


async def test_what_was_read_while_it_changed_is_not_kept(source: Source) -> None:
    """It was read before the commit, and is answered after it."""
    cache = ResolutionCache[str](source)
    read, answered = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        read.set()
        await answered.wait()

    source.before_telling = hold
    slow = asyncio.create_task(cache.get("bot", "bot", source.ask))
    await read.wait()
    source.before_telling = None
    source.answer = "new"
    source.changes.record("bot")
    answered.set()
    assert await slow == "old"  # true when it was asked
    assert await cache.get("bot", "bot", source.ask) == "new"


async def test_a_refusal_is_asked_for_again(source: Source) -> None:
    cache = ResolutionCache[str](source)

    async def refuse() -> str:
        raise LookupError

    with pytest.raises(LookupError):
        await cache.get("bot", "bot", refuse)
    assert await cache.get("bot", "bot", source.ask) == "old"


async def test_no_more_answers_are_kept_than_were_allowed(source: Source) -> None:
    cache = ResolutionCache[str](source, max_entries=2)
    for name in ("a", "b", "c", "a"):
        await cache.get(name, name, source.ask)
    assert source.asked == 4


def test_changes_of_very_many_adapters_take_no_more_memory_and_end_all_answers() -> None:
    changes = ChangeCounter(max_adapters=3)
    changes.record("a")
    before = changes.count
    changes.record("b", "c", "d")
    assert changes.last_change("never heard of") == changes.count > before
    changes.record("e")
    assert changes.last_change("a") < changes.last_change("e") == changes.count
