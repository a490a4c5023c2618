"""Stock servers as replicas of an ingress in the same process."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from engine.errors import EngineUnavailable
from fleet.messages import EngineFacts, ForwardedRequest, Messages, ReplicaResults
from fleet.placement import Bound, choose
from fleet.ports import NoReplica
from fleet.replica.replica import Replica

_FACTS = "facts"


class StockReplicas:
    """Implements `fleet.ports.Replicas` with the router's placement.

    `facts`: of each server by its name. `connected` grows as they answer.
    """

    def __init__(self, facts: Mapping[str, EngineFacts], bound: Bound) -> None:
        self._facts = facts
        self._bound = bound
        self._running = Counter[str]()
        self.connected: dict[str, Replica] = {}

    async def call(
        self, operation: str, *arguments: Any, only: frozenset[str] | None = None
    ) -> ReplicaResults[Any]:
        """Raises EngineUnavailable."""
        if operation == _FACTS:  # known before any server answers
            return ReplicaResults(self._facts)
        calls = [each.call(operation, arguments, only) for each in self.connected.values()]
        results = [each for each in await asyncio.gather(*calls) if each is not None]
        if not results:
            raise EngineUnavailable("no server answers")
        return ReplicaResults.collect(results)

    async def expected(self) -> int:
        return len(self._facts)

    @asynccontextmanager
    async def forward(self, request: ForwardedRequest) -> AsyncIterator[AsyncGenerator[Messages]]:
        """Raises ReplicaLost, NoReplica if no server has answered yet."""
        try:
            replica = self._best(request)
        except EngineUnavailable as error:
            raise NoReplica(error.detail) from error
        name = replica.residency().name
        self._running[name] += 1
        messages = replica.handle(request)
        try:
            yield messages
        finally:
            await messages.aclose()
            self._running[name] -= 1

    def _best(self, request: ForwardedRequest) -> Replica:
        where = {name: each.residency() for name, each in self.connected.items()}
        up = [name for name, each in where.items() if each.engine_up]
        usable = [name for name in up if name not in request.avoid] or up or list(where)
        if not usable:
            raise EngineUnavailable("no server answers")
        loads = [self._running[name] for name in usable]
        if (version := request.version) is None:
            return self.connected[usable[loads.index(min(loads))]]
        nearness = [where[name].nearness(version.id) for name in usable]
        chosen = choose(
            version.reference,
            usable,
            loads,
            nearness,
            self._bound,
            rank=version.rank,
            max_ranks=[where[name].max_rank for name in usable],
        )
        return self.connected[usable[chosen]]
