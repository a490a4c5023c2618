"""Overhead of our layers: CPU time for each request and token, beside stock vLLM's application.

    python -m benchmarks.overhead

Both applications are in one process, each over its own echo engine, which needs no CPU time to
speak of: vLLM's front end, complete, with and without us. Blocks alternate A-B-B-A. The process's
CPU time counts, so a busy machine disturbs little.
"""

import argparse
import asyncio
import gc
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from benchmarks.common.environment import stay_offline
from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, write_adapter, write_base_model
from benchmarks.overhead.applications import Application, ours, parse_arguments, stock
from benchmarks.overhead.connection import Connection, uvicorn_config

ADAPTERS = 4
LONG = 129
"""Tokens of a long answer; a short one has a single token."""

Group = dict[tuple[str, int], float]
"""Of one A-B-B-A: the CPU time for each request, by side and tokens."""


class Streams:
    """Clients of one application that ask all the time."""

    def __init__(self, application: Application, streams: int) -> None:
        self.name = application.name
        config = uvicorn_config(application)
        self._connections = [Connection(application, config) for _ in range(streams)]

    async def ask(self, requests: int, tokens: int) -> float:
        """CPU seconds of the process for each request."""
        left = iter(range(requests))
        began = time.process_time()
        await asyncio.gather(*(self._ask_each(each, left, tokens) for each in self._connections))
        return (time.process_time() - began) / requests

    async def _ask_each(self, connection: Connection, left: Iterator[int], tokens: int) -> None:
        for number in left:  # shared by all
            await connection.stream(f"a{number % ADAPTERS}", tokens)


async def measure(streams: int, rounds: int, *, keys: bool) -> tuple[list[Group], float]:
    """One group for each round; and the share of a core that both take while nobody asks."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for n in range(ADAPTERS):
            write_adapter(folder / "adapters", f"a{n}", SHAPES["tiny"], rank=8, seed=n)
        (folder / "state").mkdir()
        arguments = parse_arguments(write_base_model(folder, SHAPES["tiny"]), ADAPTERS)
        async with AsyncExitStack() as stack:
            sides = [
                Streams(await stack.enter_async_context(each), streams)
                for each in (
                    stock(arguments, folder / "adapters", keys=keys),
                    ours(arguments, folder / "adapters", folder / "state", keys=keys),
                )
            ]
            await _ask_in_turn(sides, streams)  # warm up
            gc.collect()
            gc.freeze()  # as vLLM does once it has started
            groups = [await _ask_in_turn(sides, streams) for _ in range(rounds)]
            idle = await _idle_share()
            gc.unfreeze()
            return groups, idle


async def _ask_in_turn(sides: Sequence[Streams], streams: int) -> Group:
    """Short blocks, close together: what else runs on the machine changes by the second."""
    found: Group = defaultdict(float)
    for tokens, requests in ((1, 4 * streams), (LONG, streams)):
        for side in [*sides, *reversed(sides)]:
            found[side.name, tokens] += await side.ask(requests, tokens) / 2
    return found


async def _idle_share(seconds: float = 5.0) -> float:
    began = time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - began) / seconds


def report(groups: Sequence[Group], idle_share: float) -> None:
    rows = []
    for what, cost in (("request with one token", _request), ("each further token", _token)):
        stocks = [cost(group, "stock") for group in groups]
        more = [cost(group, "ours") - cost(group, "stock") for group in groups]
        rows.append(
            {
                "CPU time, µs": what,
                "stock": f"{statistics.median(stocks):.1f}",
                "ours - stock": f"{statistics.median(more):.1f}",
                "its quartiles": "{:.1f} … {:.1f}".format(*_quartiles(more)),
            }
        )
    print_table(rows)
    print(f"while nobody asks: {idle_share:.2%} of one core")


def _request(group: Group, side: str) -> float:
    return group[side, 1] * 1e6


def _token(group: Group, side: str) -> float:
    return (group[side, LONG] - group[side, 1]) / (LONG - 1) * 1e6


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    lower, _, upper = statistics.quantiles(values, n=4)
    return lower, upper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=12, help="of A-B-B-A")
    parser.add_argument("--keys", action="store_true", help="require API keys on both sides")
    arguments = parser.parse_args()
    stay_offline()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    groups, idle = uvloop.run(measure(arguments.streams, arguments.rounds, keys=arguments.keys))
    print(machine())
    report(groups, idle)


if __name__ == "__main__":
    main()
