"""A long run in which everything changes: every answer is judged, and nothing may grow.

    OMP_NUM_THREADS=1 python -m benchmarks.soak --minutes 60

A real server over the demo model with 300 adapters. Clients ask for them by Zipf's law, streaming
and not, by name, alias and version; meanwhile versions are registered, promoted, retired and
purged, adapters pinned, unpinned, prefetched and evicted. Ends with 1 if an answer was of a wrong
version or a wrong text, a request failed or was stuck, a registration was lost, or the server grew.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.servers import ready, running
from benchmarks.soak_actors import ROOT, World, fill, work
from benchmarks.soak_checks import read_back
from benchmarks.soak_resources import Growth, Sample, growth, watch
from benchmarks.tables import machine, print_table

ADAPTERS = 300
CLIENTS = 6
SLOTS, HOST_PLACES = 3, 12
SHOWN = 20


def command(state: Path) -> list[str]:
    return [
        *("adaptry", "serve", str(ROOT / "demo" / "base"), "--profile", "demo"),
        *("--dtype", "float32", f"--max-loras={SLOTS}", f"--max-cpu-loras={HOST_PLACES}"),
        f"--database=sqlite:///{state}/registry.db",
        *(f"--store={state}/store", f"--source-root={ROOT / 'demo'}"),
        "--disable-uvicorn-access-log",
    ]


async def soak(minutes: float, seed: int, logs: Path) -> bool:
    """Whether everything held."""
    with tempfile.TemporaryDirectory() as text:
        state, samples = Path(text), list[Sample]()
        with running("soak", command(state), {}, logs) as side:
            await ready(side)
            async with connected(side.base_url) as http:
                world = World(http, random.Random(seed))
                await fill(world, [f"adapter-{n:03}" for n in range(ADAPTERS)])
                print(
                    f"{len(world.names)} adapters are registered; {minutes:g} minutes from now on"
                )
                watching = asyncio.create_task(
                    watch(side.process.pid, state / "registry.db", lambda: world.changes, samples)
                )
                asyncio.get_running_loop().call_later(minutes * 60, world.over.set)
                await work(world, CLIENTS)
                watching.cancel()
                await read_back(world)
                return report(world, growth(samples))


def connected(base_url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(base_url=base_url, timeout=120, limits=limits, trust_env=False)


def report(world: World, grown: Sequence[Growth]) -> bool:
    """Print what was done, what was wrong and what grew."""
    print(machine())
    print_table([{"what": what, "how often": n} for what, n in sorted(world.done.items())])
    print()
    print_table(
        [
            {
                "figure": each.what,
                "early": round(each.before),
                "late": round(each.after),
                "may grow by": round(each.allowed),
                "flat": "yes" if each.is_flat else "NO",
            }
            for each in grown
        ]
    )
    print(f"\n{len(world.wrong)} wrong answers, failures, lost registrations or stuck requests")
    for text in world.wrong[:SHOWN]:
        print(f"  {text}")
    return not world.wrong and all(each.is_flat for each in grown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="keep the server's log here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        logs = arguments.logs or Path(text)
        logs.mkdir(parents=True, exist_ok=True)
        held = asyncio.run(soak(arguments.minutes, arguments.seed, logs))
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
