"""Measurements of a real server: a workload is sent to it, and read back from its own trace."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adaptry.sizing.inputs import fetch_trace
from adaptry.sizing.prediction import Prediction, quantile
from adaptry.sizing.workload import Workload
from adaptry.traces.trace import Trace
from engine.simulation.replay import Arrival
from engine.types import CacheOutcome, Transition

MOST_LOADS_OFF = 0.02  # of the loads
MOST_HITS_OFF = 0.01  # of the requests
MOST_FIRST_TOKEN_OFF = 0.10


@dataclass(frozen=True, slots=True)
class Measured:
    """What a server did with a workload, by its recorded trace. Times in seconds."""

    requests: int
    slot_hit_ratio: float
    memory_hit_ratio: float
    loads: int
    first_token_p50: float
    first_token_p99: float


@dataclass(frozen=True, slots=True)
class Errors:
    """How far off a prediction was, each as a share."""

    loads: float
    slot_hits: float
    memory_hits: float
    first_token_p50: float
    first_token_p99: float

    @property
    def are_within(self) -> bool:
        """The cache's; times depend on what else the machine does."""
        hits = max(abs(self.slot_hits), abs(self.memory_hits))
        return abs(self.loads) <= MOST_LOADS_OFF and hits <= MOST_HITS_OFF


async def send(workload: Workload, ask: Callable[[Arrival], Awaitable[None]]) -> None:
    """Each at its time, whether or not those before have ended."""
    began = time.perf_counter()

    async def one(arrival: Arrival) -> None:
        await asyncio.sleep(max(began + arrival.at - time.perf_counter(), 0.0))
        await ask(arrival)

    await asyncio.gather(*map(one, workload.arrivals))


def measure_since(server: str, at: float, loads_at: float | None = None) -> Measured:
    """Of what a running server has recorded, see `measured_of`."""
    return measured_of(fetch_trace(server), at, at if loads_at is None else loads_at)


def measured_of(trace: Trace, at: float, loads_at: float) -> Measured:
    """`at`: in seconds since 1970; `loads_at`: of the first load that counts.

    Raises RuntimeError if a request since then has failed.
    """
    requests = [each for each in trace.requests if each.at >= at and each.adapter is not None]
    if failed := [each for each in requests if each.outcome != "completed"]:
        raise RuntimeError(f"{len(failed)} requests were not completed: {failed[0]}")
    found = [each.source for each in requests]
    firsts = [x.first_token_seconds for x in requests if x.first_token_seconds is not None]
    return Measured(
        len(requests),
        found.count(CacheOutcome.GPU_HIT) / len(found),
        1 - found.count(CacheOutcome.MISS) / len(found),
        sum(x.at >= loads_at and x.transition == Transition.DISK_TO_HOST for x in trace.loads),
        quantile(firsts, 0.5),
        quantile(firsts, 0.99),
    )


def errors_of(predicted: Prediction, measured: Measured) -> Errors:
    """Raises RuntimeError if they are not of as many requests."""
    if predicted.requests != measured.requests:
        raise RuntimeError(f"{measured.requests} requests of {predicted.requests} were recorded")
    return difference(predicted, measured)


def difference(expected: Prediction | Measured, measured: Measured) -> Errors:
    return Errors(
        expected.loads / measured.loads - 1,
        expected.slot_hit_ratio - measured.slot_hit_ratio,
        expected.memory_hit_ratio - measured.memory_hit_ratio,
        expected.first_token_p50 / measured.first_token_p50 - 1,
        expected.first_token_p99 / measured.first_token_p99 - 1,
    )
