"""Module naming of the running engine, asked by inspections: a bridge from their threads.

Implements the `Naming` port of `registry.inspection.supported_modules`.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from cachetools import LRUCache

from engine.errors import EngineUnavailable
from registry.errors import EngineAway

Places: TypeAlias = Sequence[str | None]
Ask = Callable[[Sequence[str]], Awaitable[Places]]

MAX_KINDS = 256
ANSWER_SECONDS = 60.0


class EngineNaming:
    """Asks on the event loop that it was created on. Answers are cached: they never change."""

    def __init__(self, ask: Ask, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._ask = ask
        self._answer_seconds = answer_seconds
        self._loop = asyncio.get_running_loop()
        self._answers: LRUCache[tuple[str, ...], Places] = LRUCache(MAX_KINDS)
        self._lock = threading.Lock()

    def places(self, tensors: Sequence[str]) -> Places:
        """See `Naming`. To be called on another thread than the loop's."""
        names = tuple(tensors)
        with self._lock:
            if (known := self._answers.get(names)) is not None:
                return known
        answer = self._wait_for(names)
        with self._lock:
            self._answers[names] = answer
        return answer

    def _wait_for(self, names: Sequence[str]) -> Places:
        future = asyncio.run_coroutine_threadsafe(self._answer(names), self._loop)
        try:
            return future.result(self._answer_seconds)
        except TimeoutError:
            future.cancel()
            raise EngineAway("the engine did not say in time which modules it serves") from None
        except EngineUnavailable as why:
            raise EngineAway(why.detail) from why

    async def _answer(self, names: Sequence[str]) -> Places:
        return await self._ask(names)
