"""Ingresses in front of two real engines, for the requests of benchmarks/scale/live.py."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.common.client import Answer, Client, client
from benchmarks.common.servers import Limits, fleet, replicas_of_ray
from benchmarks.common.workload import name_of
from benchmarks.scale.routers import nearness_in, ours
from benchmarks.scale.sim import named
from engine.simulation.shared_engine import Request
from engine.types import VersionId
from fleet.placement import Nearness

LOOK_SECONDS = 1.0


class Front(Protocol):
    """`servers`: those that report the engines' metrics and residents."""

    @property
    def servers(self) -> Sequence[Client]: ...

    @property
    def names(self) -> Sequence[str]:
        """The engines' names in the routing."""

    def key(self, adapter: VersionId) -> str:
        """The name of an adapter in the routing."""

    async def ask(self, request: Request) -> Answer: ...


def adapter_of(reference: str) -> VersionId:
    return VersionId(int(reference.removeprefix("adapter-").partition(":")[0]))


@dataclass
class RayIngress:
    """`adaptry serve --replicas`, the product itself. Implements `Front`."""

    server: Client
    names: Sequence[str]

    @property
    def servers(self) -> Sequence[Client]:
        return [self.server]

    def key(self, adapter: VersionId) -> str:
        return f"{name_of(adapter)}:1"

    async def ask(self, request: Request) -> Answer:
        return await self.server.ask(
            name_of(request.adapter), max_tokens=request.tokens, seed=request.number
        )


@dataclass
class RoutingIngress:
    """This process sends each request where our routing says, knowing what the servers said they
    hold a moment ago. Implements `Front`, and `Known` over real servers."""

    servers: Sequence[Client]
    gpu: list[set[VersionId]] = field(init=False)
    host: list[set[VersionId]] = field(init=False)
    ranks: None = None
    _loads: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._loads = [0] * len(self.servers)
        self.gpu = [set() for _ in self.servers]
        self.host = [set() for _ in self.servers]
        self._route = ours(self)

    @property
    def names(self) -> Sequence[str]:
        return named(len(self.servers))

    key = staticmethod(str)

    def loads(self) -> list[int]:
        return self._loads

    def nearness(self, adapter: VersionId) -> list[Nearness]:
        return nearness_in(adapter, self.gpu, self.host)

    def sent(self, adapter: VersionId, index: int) -> None:
        self.host[index].add(adapter)

    async def look(self) -> None:
        """Poll until cancelled."""
        while True:
            for index, server in enumerate(self.servers):
                held = await server.residents()
                self.gpu[index] = set(map(adapter_of, held["gpu"]))
                self.host[index] = set(map(adapter_of, held["host"]))
            await asyncio.sleep(LOOK_SECONDS)

    async def ask(self, request: Request) -> Answer:
        index = self._route(request.adapter)
        self._loads[index] += 1
        try:
            return await self.servers[index].ask(
                name_of(request.adapter), max_tokens=request.tokens, seed=request.number
            )
        finally:
            self._loads[index] -= 1


@asynccontextmanager
async def routing_ingress(
    replicas: int, base: Path, adapters: Path, limits: Limits, folder: Path
) -> AsyncIterator[Front]:
    async with fleet(replicas, base, adapters, limits, folder) as sides, AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(client(side.base_url)) for side in sides]
        ingress = RoutingIngress(servers)
        looking = asyncio.create_task(ingress.look())
        yield ingress
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@asynccontextmanager
async def ray_ingress(
    replicas: int, base: Path, adapters: Path, limits: Limits, folder: Path
) -> AsyncIterator[Front]:
    starting = replicas_of_ray(replicas, base, adapters, limits, folder)
    async with starting as side, client(side.base_url) as server:
        yield RayIngress(server, await server.replicas())


FRONTS: dict[str, Callable[[int, Path, Path, Limits, Path], AbstractAsyncContextManager[Front]]] = {
    "ray": ray_ingress,
    "ours": routing_ingress,
}
