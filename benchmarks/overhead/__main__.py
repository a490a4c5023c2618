"""Overhead of our layers: CPU time for each request and token, beside stock vLLM's application.

    python -m benchmarks.overhead

Both applications are in one process, each over its own echo engine, which needs no CPU time to
speak of: vLLM's front end, complete, with and without us. Blocks alternate A-B-B-A. The process's
CPU time counts, so a busy machine disturbs little, and the least of each side least. How
often functions of ours are called is counted besides, which nothing disturbs.
"""

import argparse
import asyncio
import gc
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from benchmarks.common.environment import stay_offline
from benchmarks.common.tables import machine, print_table
from benchmarks.overhead.applications import ours, prepare, stock
from benchmarks.overhead.calls import Calls, count_calls
from benchmarks.overhead.streams import ADAPTERS, Streams

LONG = 129
"""Tokens of a long answer; a short one has a single token."""

Group = dict[tuple[str, int], float]
"""Of one A-B-B-A: the CPU time for each request, by side and tokens."""


async def measure(streams: int, rounds: int, *, keys: bool) -> tuple[list[Group], float, Calls]:
    """One group for each round; the share of a core that both take while idle; our calls."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        arguments = prepare(folder, ADAPTERS)
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
            return groups, idle, await count_calls(sides[1])


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


def report(groups: Sequence[Group], idle_share: float, calls: Calls) -> None:
    rows = []
    for what, cost in (("request with one token", _request), ("each further token", _token)):
        stocks = [cost(group, "stock") for group in groups]
        all_ours = [cost(group, "ours") for group in groups]
        more = [ours - stock for ours, stock in zip(all_ours, stocks, strict=True)]
        rows.append(
            {
                "CPU time, µs": what,
                "stock": f"{statistics.median(stocks):.1f}",
                "ours - stock": f"{statistics.median(more):.1f}",
                "its quartiles": "{:.1f} … {:.1f}".format(*_quartiles(more)),
                "least of each": f"{min(all_ours) - min(stocks):.1f}",
            }
        )
    print_table(rows)
    print(f"while idle: {idle_share:.2%} of one core")
    print(
        f"calls of our functions, counted: {calls.per_request:.0f} for a request with one token, "
        f"{calls.per_token:.2f} for each further token"
    )


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
    groups, idle, calls = uvloop.run(
        measure(arguments.streams, arguments.rounds, keys=arguments.keys)
    )
    print(machine())
    report(groups, idle, calls)


if __name__ == "__main__":
    main()
