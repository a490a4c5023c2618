"""Soak: a long run in which everything changes. Every response is judged, and nothing may grow.

    OMP_NUM_THREADS=1 python -m benchmarks.soak --minutes 60 --result soak.json
    python -m benchmarks.soak --report soak.json

A real server with the demo model and 300 adapters. Two client processes send requests by Zipf's
law and in bursts: completions, chat and `/generate`, streaming and not, by name, alias and version,
some leaving early. Meanwhile versions are registered, promoted, split over users, rolled back,
retired, restored and purged; adapters pinned, unpinned, prefetched and evicted. Exits with 1 if a
response was of a wrong version or a wrong text, if the final state is not what was done, or if the
server grew, and prints which.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from benchmarks.common.servers import Side, ready, running
from benchmarks.common.tables import machine
from benchmarks.soak.answers import Answer
from benchmarks.soak.client import MAX_TOKENS, WORDS, connected
from benchmarks.soak.operators import OPERATORS, fill, operate, taught
from benchmarks.soak.reading import follow, look, read_back
from benchmarks.soak.report import Result, load, show
from benchmarks.soak.resources import MIB, Places, Sample
from benchmarks.soak.server import TASKS_VARIABLE
from benchmarks.soak.variants import ROOT, Variants
from benchmarks.soak.world import World
from demo.tasks import prompt_for

BASE = "tiny-text-tools"
ADAPTERS = 300
CLIENT_PROCESSES = 2
SLOTS, HOST_PLACES = 4, 48
SAMPLES = 240
REQUESTS_PER_SECOND = 4.0


def command(state: Path) -> list[str]:
    return [
        *("benchmarks.soak.server", "adaptry", "serve", str(ROOT / "demo" / "base")),
        *("--profile", "demo", "--dtype", "float32"),
        *(f"--max-loras={SLOTS}", f"--max-cpu-loras={HOST_PLACES}"),
        f"--database=sqlite:///{state}/registry.db",
        *(f"--store={state}/store", f"--source-root={ROOT / 'demo'}"),
        *(f"--source-root={state}/variants", "--disable-uvicorn-access-log"),
    ]


class Soak:
    """One run on a freshly started server."""

    def __init__(self, world: World, side: Side, state: Path, seconds: float) -> None:
        self.world = world
        self.seconds = seconds
        self.samples: list[Sample] = []
        self.followed: list[int] = []
        self.store = state / "store"
        self._side = side
        self._places = Places(
            psutil.Process(side.process.pid),
            database=state / "registry.db",
            store=self.store,
            log=side.log,
            tasks=state / "tasks",
        )

    async def run(self, seed: int, per_second: float) -> None:
        """Run the traffic, then check the final state."""
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow(self.world.http, self.followed))
            await self._learn_base()
            await fill(self.world, [f"adapter-{n:03}" for n in range(ADAPTERS)])
            print(
                f"{ADAPTERS} adapters are there; {self.seconds / 60:g} minutes from now", flush=True
            )
            await self._work(seed, per_second / CLIENT_PROCESSES)
            await read_back(self.world, self.followed, self.store)
            following.cancel()

    async def _learn_base(self) -> None:
        for word in WORDS:
            body = {"model": BASE, "prompt": prompt_for(word), "max_tokens": MAX_TOKENS}
            response = await self.world.http.post(
                "/v1/completions", json={**body, "temperature": 0}
            )
            self.world.base[word] = response.json()["choices"][0]["text"]

    async def _work(self, seed: int, per_second: float) -> None:
        over = self.world.over
        asyncio.get_running_loop().call_later(self.seconds, over.set)
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENT_PROCESSES):
                tasks.create_task(self._ask(seed + number, per_second))
            for action, pause_seconds in OPERATORS:
                tasks.create_task(operate(self.world, action, pause_seconds))
            tasks.create_task(self._watch())

    async def _ask(self, seed: int, per_second: float) -> None:
        """Run a client process until it exits."""
        arguments = (self._side.base_url, BASE, str(seed), str(per_second))
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.soak.client", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        if client.stdin is None or client.stdout is None:
            raise RuntimeError("a client without pipes")
        teaching = asyncio.create_task(self._teach(client.stdin))
        async for line in client.stdout:
            self.world.record(Answer(**json.loads(line)))
        await teaching
        if await client.wait() or not self.world.over.is_set():
            self.world.complain(f"a client process ended with {client.returncode}")

    async def _teach(self, pipe: asyncio.StreamWriter) -> None:
        """Send new adapters to a client process; closing its input ends it."""
        told: dict[str, object] = {}
        while not self.world.over.is_set():
            for name, each in taught(self.world).items():
                if told.get(name) != each:
                    pipe.write(json.dumps(each).encode() + b"\n")
                    told[name] = each
            await pipe.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.world.over.wait(), 1)
        pipe.close()

    async def _watch(self) -> None:
        pause, began, world = max(1.0, self.seconds / SAMPLES), time.monotonic(), self.world
        while not world.over.is_set():
            page = await look(world)
            at = time.monotonic() - began
            asked = (world.answers, world.changes, world.live_bytes())
            with contextlib.suppress(psutil.NoSuchProcess):  # a child that ended meanwhile
                self.samples.append(self._places.sample(at, *asked, page.series))
                self._say_how_it_goes()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(world.over.wait(), pause)

    def _say_how_it_goes(self) -> None:
        if len(self.samples) % (SAMPLES // 12) == 0:
            last, wrong = self.samples[-1], len(self.world.wrong)
            memory = (last.server_bytes // MIB, last.engine_bytes // MIB)
            so_far = f"{last.seconds / 60:.0f} min, {last.requests} requests, {wrong} wrong"
            print(f"{so_far}, {last.changes} changes, MiB {memory}", flush=True)


@asynccontextmanager
async def run_soak(minutes: float, seed: int, logs: Path) -> AsyncIterator[Soak]:
    with tempfile.TemporaryDirectory() as text:
        state = Path(text)
        (state / "variants").mkdir()
        environment = {TASKS_VARIABLE: str(state / "tasks")}
        with running("soak", command(state), environment, logs) as side:
            await ready(side)
            async with connected(side.base_url) as http:
                world = World(http, random.Random(seed), Variants(state / "variants"))
                yield Soak(world, side, state, minutes * 60)


async def soak(arguments: argparse.Namespace, logs: Path) -> Result:
    began, spent = time.monotonic(), _cpu_seconds()
    async with run_soak(arguments.minutes, arguments.seed, logs) as one:
        await one.run(arguments.seed, arguments.rate)
    seconds = time.monotonic() - began
    return Result(
        command=f"python -m benchmarks.soak {' '.join(sys.argv[1:])}",
        machine=machine(),
        minutes=seconds / 60,
        cores=(_cpu_seconds() - spent) / seconds,
        done=dict(sorted(one.world.done.items())),
        events=one.world.changes,
        wrong=one.world.wrong,
        samples=one.samples,
    )


def _cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=REQUESTS_PER_SECOND, help="per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="store the server's log here")
    parser.add_argument("--result", type=Path, help="write the results here, as JSON")
    parser.add_argument("--report", type=Path, help="only print such a result")
    arguments = parser.parse_args()
    # Ended by .ci/run, it would leave its server behind: this way it closes what it opened.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before its time"))
    if arguments.report:
        result = load(arguments.report)
    else:
        with tempfile.TemporaryDirectory() as text:
            logs = arguments.logs or Path(text)
            logs.mkdir(parents=True, exist_ok=True)
            result = asyncio.run(soak(arguments, logs))
        if arguments.result:
            result.save(arguments.result)
    show(result)
    sys.exit(0 if result.held else 1)


if __name__ == "__main__":
    main()
