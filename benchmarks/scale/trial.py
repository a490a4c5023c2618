"""Trial of a fleet on Ray Serve: what its phases use, and the rows that they finish."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.common.client import Answer, Client
from benchmarks.common.tables import print_table
from benchmarks.scale.cluster import REPLICA, Cluster
from benchmarks.scale.fronts import RayIngress
from benchmarks.scale.sim import Workload
from benchmarks.serving.machines import Limit
from engine.simulation.replica import Shape
from engine.simulation.shared_engine import Costs, Request

CHANGE_SECONDS = 240.0
STUCK_SECONDS = 60.0
FAILED = ("DEPLOY_FAILED", "failed to start")  # what Ray Serve says; it would try for long
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes for one machine. Rates are requests/s for each replica.

    `rates`: of the goodput, `steady_rate` of all else. `limit`: if none, three times what is idle
    takes. `together`: see benchmarks/scale/live.py.
    """

    shape: str
    rank: int
    cache: Shape
    adapters: int
    mean_tokens: int
    rates: tuple[float, ...]
    rate_seconds: float
    steady_rate: float
    loads_seconds: float
    fault_seconds: float
    limit: Limit | None
    together: tuple[int, ...]
    gpus: float
    arguments: tuple[str, ...]

    def workload(self, rate: float, seconds: float, seed: int = 1) -> Workload:
        return Workload(self.adapters, rate, seconds, mean_tokens=self.mean_tokens, seed=seed)


@dataclass
class Record:
    """Rows by phase: printed and written as they are finished."""

    path: Path | None
    began: float = field(default_factory=time.monotonic)
    rows: dict[str, list[Mapping[str, object]]] = field(default_factory=dict)

    def add(self, phase: str, row: Mapping[str, object]) -> None:
        self.rows.setdefault(phase, []).append(row)
        shown = ", ".join(f"{name} {value}" for name, value in row.items())
        print(f"# {time.monotonic() - self.began:.0f} s, {phase}: {shown}", flush=True)
        if self.path:
            self.path.write_text(json.dumps(self.rows, indent=1))

    def print(self) -> None:
        for phase, rows in self.rows.items():
            print(f"\n{phase}\n")
            print_table(rows)


@dataclass
class PatientIngress(RayIngress):
    """Notes a request without an end, in place of waiting for ever."""

    async def ask(self, request: Request) -> Answer:
        asked = time.perf_counter()
        try:
            return await asyncio.wait_for(super().ask(request), STUCK_SECONDS)
        except TimeoutError:
            return Answer("", asked, request.tokens, error=f"no end in {STUCK_SECONDS:g} s")


@dataclass
class Trial:
    """`costs`: measured on one replica. `change_seconds`: that replicas may take to come or go."""

    machine: Machine
    cluster: Cluster
    server: Client
    record: Record
    costs: Costs | None = None
    change_seconds: float = CHANGE_SECONDS

    async def front(self) -> PatientIngress:
        return PatientIngress(self.server, await self.server.replicas())

    async def up(self) -> int:
        """The number of replicas whose engine is up now."""
        try:
            return len(await self.server.replicas())
        except (aiohttp.ClientError, KeyError, TimeoutError):
            return 0  # there is no ingress yet

    async def until_up(self, replicas: int) -> float:
        """The seconds until there are so many. Raises RuntimeError."""
        began = time.monotonic()
        while await self.up() != replicas:
            why = await asyncio.to_thread(self.cluster.why_not_running)
            failed = any(words in why for words in FAILED)
            if failed or time.monotonic() - began > self.change_seconds:
                raise RuntimeError(f"there are not {replicas} replicas: {why}")
            await asyncio.sleep(_POLL_SECONDS)
        return time.monotonic() - began

    async def deploy(self, replicas: int) -> float:
        """The seconds until there are so many replicas, and no process of another.

        Raises RuntimeError.
        """
        began = time.monotonic()
        await asyncio.to_thread(self.cluster.deploy, replicas)
        await self.until_up(replicas)
        await self._until_ended(replicas)
        return time.monotonic() - began

    async def _until_ended(self, replicas: int) -> None:
        began = time.monotonic()
        while len(running := await asyncio.to_thread(self.cluster.pids, REPLICA)) > replicas:
            if time.monotonic() - began > self.change_seconds:
                pids = ", ".join(map(str, sorted(running.values())))
                raise RuntimeError(f"more than {replicas} replicas still run: processes {pids}")
            await asyncio.sleep(_POLL_SECONDS)

    @property
    def limit(self) -> Limit:
        if self.machine.limit is not None:
            return self.machine.limit
        assert self.costs is not None
        step = self.costs.step_seconds + self.costs.step_seconds_per_request
        return 3 * (self.costs.prefill_seconds + step), 3 * step

    def steady(self, seconds: float, seed: int = 1, replicas: int = 2) -> Workload:
        return self.machine.workload(self.machine.steady_rate * replicas, seconds, seed)

    def warming(self, rate: float) -> Workload:
        return self.machine.workload(rate, self.machine.rate_seconds / 2, seed=99)
