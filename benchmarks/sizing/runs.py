"""Runs of the sizing benchmark: servers started one after another or together, and asked."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adaptry.client import Client as Registry
from adaptry.sizing.costs import KnownCosts
from adaptry.sizing.inputs import calibrate
from adaptry.sizing.prediction import Setting
from adaptry.sizing.workload import Workload
from benchmarks.common.client import client, quantile
from benchmarks.common.servers import Limits, Side, ours_alone, stock_alone
from benchmarks.common.workload import SHAPES, name_of, write_adapters, write_base_model
from benchmarks.sizing.halves import WARM_SECONDS
from benchmarks.sizing.machines import Machine
from benchmarks.sizing.measured import Measured, measure_since, send
from engine.simulation.replay import Arrival

RANK = 8


@dataclass(frozen=True, slots=True)
class Run:
    """One server, and what it is asked. `again`: ours a second time, by a server of its own."""

    kind: Literal["ours", "again", "stock"]
    setting: Setting
    workload: Workload

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.setting.slots}-{self.setting.host_places}"


@dataclass(frozen=True, slots=True)
class Felt:
    """First tokens as the client saw them, in seconds."""

    p50: float
    p99: float
    in_time: float


def prepare(folder: Path, chosen: Machine, adapters: int) -> Path:
    """The base model's folder; the adapters are beside it."""
    shape = SHAPES[chosen.shape]
    names = [name_of(number) for number in range(1, adapters + 1)]
    write_adapters(folder / "adapters", names, shape, rank=RANK)
    return write_base_model(folder, shape)


@asynccontextmanager
async def serving(
    runs: Sequence[Run], chosen: Machine, base: Path
) -> AsyncIterator[Sequence[Side]]:
    """Their servers, started together, and ended together. Raises an ExceptionGroup."""
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as starting:
            started = [
                starting.create_task(stack.enter_async_context(_server(run, chosen, base)))
                for run in runs
            ]
        sides = [each.result() for each in started]
        try:
            yield sides
        finally:
            for side in sides:  # the stack waits for one after another
                side.process.terminate()


def _server(run: Run, chosen: Machine, base: Path) -> AbstractAsyncContextManager[Side]:
    setting, adapters = run.setting, base.parent / "adapters"
    limits = Limits(setting.slots, setting.host_places, RANK, chosen.arguments)
    folder = base.parent / run.name
    folder.mkdir()
    if run.kind == "stock":
        return stock_alone(base, adapters, limits, folder)
    return ours_alone(base, adapters, limits, folder, folder)


async def serve(side: Side, run: Run, goal_seconds: float) -> tuple[float, Felt]:
    """When it began, in seconds since 1970, and how it felt. Raises RuntimeError."""
    found: list[float] = []
    async with client(side.base_url) as asking:

        async def ask(arrival: Arrival) -> None:
            answer = await asking.ask(name_of(arrival.adapter), max_tokens=arrival.tokens)
            if answer.error:
                raise RuntimeError(answer.error)
            if arrival.at >= WARM_SECONDS:
                found.append(answer.first_token_seconds)

        at = time.time()
        await send(run.workload, ask)
    in_time = sum(each <= goal_seconds for each in found) / len(found)
    return at, Felt(quantile(found, 0.5), quantile(found, 0.99), in_time)


async def measure(side: Side, at: float) -> Measured:
    return await asyncio.to_thread(measure_since, side.base_url, at + WARM_SECONDS, at)


def keep_trace(server: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Registry(server) as asking, asking.cache.trace() as chunks:
        path.write_bytes(b"".join(chunks))


async def measure_costs(server: str, kept: Path | None) -> KnownCosts:
    """`kept`: folder for them."""
    known = await asyncio.to_thread(calibrate, server, KnownCosts())
    if kept is not None:
        known.save(kept / "costs.json")
    return known
