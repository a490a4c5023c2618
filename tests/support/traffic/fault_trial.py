"""Traffic on a real server while something bad happens to it, and the count of what came of it."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.servers.adaptry_serve import ServedDemo
from tests.support.traffic.actors import (
    add_something,
    fill,
    promote_something,
    steer_something,
    work,
)
from tests.support.traffic.alias_history import AdapterHistory
from tests.support.traffic.expected_state import Outage, World
from tests.support.traffic.final_checks import read_back

CLIENTS = 3
CHANGES = ((promote_something, 0.5), (add_something, 1.0))
OPERATORS = (*CHANGES, (steer_something, 0.5))
NAMES = [f"adapter-{number}" for number in range(6)]
PATIENCE_SECONDS = 60.0
# Clients that never rest take the cores from the server or the engine that has to start again.
PAUSE_SECONDS = 0.3


@dataclass
class Kept:
    """What was told to one server so far, by all that came before.

    `pause_seconds`: of each client between two requests; none in the long form.
    """

    pause_seconds: float
    known: dict[str, AdapterHistory] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    registered: set[tuple[str, int]] = field(default_factory=set)
    trials: int = 0

    @classmethod
    def nothing(cls, is_long: bool) -> "Kept":
        return cls(0.0 if is_long else PAUSE_SECONDS)


class Trial:
    """Clients and operators at work on one server."""

    def __init__(self, served: ServedDemo, world: World) -> None:
        self.served = served
        self.world = world

    @property
    def answered(self) -> int:
        return sum(n for what, n in self.world.done.items() if what.startswith("answered"))

    def count(self, beginning: str) -> int:
        """How often something happened whose name begins so."""
        return sum(n for what, n in self.world.done.items() if what.startswith(beginning))

    async def goes_on(self, answers: int = 15) -> None:
        """Until so many more were answered."""
        wanted = self.answered + answers
        await self.until(lambda: self.answered >= wanted)

    async def until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """`condition` may block: the traffic goes on beside it."""
        await asyncio.to_thread(self.served.wait_until, condition, seconds)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Within the block, and only there, connections may be lost."""
        outage = Outage(time.monotonic())
        self.world.outages.append(outage)
        try:
            yield
        finally:
            outage.end = time.monotonic()

    def report(self) -> dict[str, int]:
        """The counts; also printed."""
        wrong = self.world.wrong
        stuck = sum(text.startswith("stuck") for text in wrong)
        lost = sum(text.startswith("lost") for text in wrong)
        counts = {
            "answered": self.answered,
            "refused": self.count("refused"),
            "cut off": self.count("cut off"),
            "connections lost": self.count("connection lost"),
            "registered": self.count("register") - self.count("register: "),
            "registrations lost": lost,
            "stuck": stuck,
            "wrong": len(wrong) - stuck - lost,
        }
        sys.stdout.write(f"{counts}\n{dict(sorted(self.world.done.items()))}\n")
        sys.stdout.writelines(f"{text}\n" for text in wrong)
        return counts


@asynccontextmanager
async def trial(
    served: ServedDemo,
    kept: Kept,
    *,
    retryable: Sequence[str] = (),
    clients: int = CLIENTS,
    operators: Sequence[tuple[Any, float]] = OPERATORS,
) -> AsyncIterator[Trial]:
    """Traffic while the block runs; then all is read back, and nothing may be wrong."""
    kept.trials += 1
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2)
    url = str(served.client.base_url)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False) as http:
        world = World(
            http,
            random.Random(kept.trials),
            known=kept.known,
            names=kept.names,
            registered=kept.registered,
            numbers=iter(range(1000 * kept.trials, 1000 * (kept.trials + 1))),
            patience_seconds=PATIENCE_SECONDS,
        )
        if not kept.names:
            await fill(world, NAMES)
        world.retryable = frozenset(retryable)
        running = Trial(served, world)
        working = asyncio.create_task(work(world, clients, operators, kept.pause_seconds))
        try:
            await running.goes_on()
            yield running
            await running.goes_on()
        finally:
            world.over.set()
            await working
        await read_back(world)
        counts = running.report()
        assert world.wrong == [], "\n".join(world.wrong[:20])
        assert counts["answered"] > 0
        assert counts["registered"] > 0 or not operators
