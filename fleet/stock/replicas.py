"""Several stock servers as the entrance's replicas, in this process."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from engine.errors import EngineUnavailable
from fleet.messages import Answers, EngineFacts, ForwardedRequest, Messages
from fleet.placement import Bound, choose
from fleet.ports import ReplicaLost
from fleet.replica.replica import Replica

_FACTS = "facts"


class StockReplicas:
    """Implements `fleet.ports.Replicas`, with the router's choice. `there` grows as they answer."""

    def __init__(self, names: Sequence[str], facts: EngineFacts, bound: Bound) -> None:
        self._names = names
        self._facts = facts
        self._bound = bound
        self._running = Counter[str]()
        self.there: dict[str, Replica] = {}

    async def ask(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> Answers[Any]:
        """Raises EngineUnavailable."""
        if operation == _FACTS:  # which are known before any of them answers
            return Answers(dict.fromkeys(self._names, self._facts))
        asked = [each.ask(operation, arguments, only) for each in self.there.values()]
        given = [each for each in await asyncio.gather(*asked) if each is not None]
        if not given:
            raise EngineUnavailable("no server answers")
        return Answers.of(given)

    @asynccontextmanager
    async def answer(self, request: ForwardedRequest) -> AsyncIterator[AsyncGenerator[Messages]]:
        """Raises ReplicaLost, also where none has been there yet."""
        try:
            replica = self._best(request)
        except EngineUnavailable as error:
            raise ReplicaLost(error.detail) from error
        name = replica.whereabouts().name
        self._running[name] += 1
        messages = replica.answer(request)
        try:
            yield messages
        finally:
            await messages.aclose()
            self._running[name] -= 1

    def _best(self, request: ForwardedRequest) -> Replica:
        where = {name: each.whereabouts() for name, each in self.there.items()}
        up = [name for name, each in where.items() if each.up]
        able = [name for name in up if name not in request.avoid] or up or list(where)
        if not able:
            raise EngineUnavailable("no server answers")
        loads = [self._running[name] for name in able]
        if (version := request.version) is None:
            return self.there[able[loads.index(min(loads))]]
        nearness = [where[name].nearness(version.id) for name in able]
        return self.there[able[choose(version.reference, able, loads, nearness, self._bound)]]
