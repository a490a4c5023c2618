"""Phases of a trial: loads by routing, goodput, a promotion, scaling, and a kill."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from adaptry.client import Client as AdaptryClient
from benchmarks.common.client import Answer, keep_asking, quantile
from benchmarks.scale.cluster import REPLICA
from benchmarks.scale.live import evict_all, live, loads_of, send_all
from benchmarks.scale.outcomes import Outcomes, outcomes_of
from benchmarks.scale.sim import Result, simulate
from benchmarks.scale.targets import CHANGES, GOODPUT, LOADS
from benchmarks.scale.trial import Trial
from benchmarks.serving.goodput import is_within

SETTLE_SECONDS = 4.0  # until the ingress has forgotten where adapters were
CLIENTS = 12  # of one adapter, so that both replicas serve it
AFTER_SECONDS = 2.0


async def compare_routings(trial: Trial) -> None:
    """The same requests, from empty caches, by our routing, at random, and simulated."""
    machine, switch = trial.machine, trial.cluster.switch
    workload = trial.steady(machine.loads_seconds)
    for routing in ("ours", "random"):
        front = await trial.front()
        switch.touch() if routing == "random" else switch.unlink(missing_ok=True)
        await evict_all(trial.server)
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            real = await live(front, workload)
        finally:
            switch.unlink(missing_ok=True)
        trial.record.add(LOADS, _row(f"two replicas, {routing}", real))
        assert trial.costs is not None
        names, key = front.names, front.key
        slo = trial.limit[0]
        simulated = await asyncio.to_thread(
            simulate, routing, names, workload, trial.costs, machine.cache, slo,
            warm_share=0.0, key=key,
        )  # fmt: skip
        trial.record.add(LOADS, _row(f"their simulation, {routing}", simulated))


def _row(name: str, result: Result) -> dict[str, object]:
    row = result.row(name)
    row.pop("busiest replica ÷ average")
    return {**row, "requests": result.requests, "loads": result.loads}


async def sweep_rates(trial: Trial, replicas: int) -> None:
    """Goodput of so many: rates in turn, with caches that are warm from what came before."""
    machine, front = trial.machine, await trial.front()
    await send_all(front, trial.warming(machine.rates[0] * replicas))
    for turn, each in enumerate(machine.rates):
        rate = each * replicas
        loads, cpu = await loads_of(front), await asyncio.to_thread(trial.cluster.cpu_seconds)
        began = time.monotonic()
        answers = await send_all(front, machine.workload(rate, machine.rate_seconds, seed=turn))
        took = time.monotonic() - began
        used = await asyncio.to_thread(trial.cluster.cpu_seconds)
        good = sum(is_within(answer, trial.limit) for answer in answers)
        first = [answer.first_token_seconds for answer in answers]
        gaps = [gap for answer in answers for gap in answer.gaps]
        row: dict[str, object] = {
            "replicas": replicas,
            "requests/s": f"{rate:g}",
            "within": f"{good / len(answers):.1%}",
            "good requests/s": f"{good / machine.rate_seconds:.1f}",
            "first token p50": f"{quantile(first, 0.5) * 1000:,.0f} ms",
            "p99": f"{quantile(first, 0.99) * 1000:,.0f} ms",
            "gap p99": f"{quantile(gaps, 0.99) * 1000:,.0f} ms",
            "errors": sum(answer.error is not None for answer in answers),
            "loads per request": f"{(await loads_of(front) - loads) / len(answers):.3f}",
        }
        cores = {
            f"cores of {kind}": f"{_most_used(kind, cpu, used) / took:.2f}"
            for kind in sorted({kind for kind, _ in used})
        }
        trial.record.add(GOODPUT, {**row, **cores})


def _most_used(
    kind: str, before: Mapping[tuple[str, int], float], after: Mapping[tuple[str, int], float]
) -> float:
    """The CPU seconds of the busiest process of a kind."""
    return max(after[each] - before.get(each, 0.0) for each in after if each[0] == kind)


async def promote(trial: Trial, name: str, next_version: Path) -> None:
    """An adapter that both replicas serve gets its next version, beside requests for it."""
    over, tokens = asyncio.Event(), trial.machine.mean_tokens
    asking = [
        asyncio.create_task(keep_asking(trial.server, [name], max_tokens=tokens, until=over))
        for _ in range(CLIENTS)
    ]
    try:
        await asyncio.sleep(AFTER_SECONDS)
        version, began, moved = await asyncio.to_thread(
            _promote, trial.cluster.base_url, name, next_version
        )
        await asyncio.sleep(AFTER_SECONDS)
    finally:
        over.set()
        answers = [answer for each in await asyncio.gather(*asking) for answer in each]
    new = f"{name}:{version}"
    late = [answer for answer in answers if answer.asked > moved]
    by = {answer.replica for answer in late if answer.version == new}
    _note(
        trial,
        f"promotion over {len(by)} replicas",
        moved - began,
        outcomes_of(answers),
        f"{sum(a.version not in (new, None) for a in late)} of {len(late)} later ones by the old",
    )


def _promote(base_url: str, name: str, source: Path) -> tuple[int, float, float]:
    """The new version, and when its alias began to move and had moved, by the clock of answers."""
    with AdaptryClient(base_url) as asking:
        version = asking.versions.register(name, str(source)).version.number
        began = time.perf_counter()
        asking.aliases.set(name, version=version)
        return version, began, time.perf_counter()


async def scale(trial: Trial, replicas: int) -> None:
    """Beside the steady load of one replica."""
    before = await trial.up()
    answers, took = await _beside_load(trial, lambda: trial.deploy(replicas))
    _note(trial, f"{before} → {replicas} replicas", took, outcomes_of(answers))


async def kill(trial: Trial) -> None:
    """kill -9 of a replica beside the steady load of one, until the next one is up."""

    async def kill_one() -> float:
        pids = await asyncio.to_thread(trial.cluster.pids, REPLICA)
        await asyncio.sleep(trial.machine.fault_seconds / 2)
        os.kill(random.choice(list(pids.values())), signal.SIGKILL)
        began = time.monotonic()
        while await trial.up() != 1 and time.monotonic() - began < trial.machine.fault_seconds:
            await asyncio.sleep(0.1)
        await trial.until_up(2)
        return time.monotonic() - began

    answers, took = await _beside_load(trial, kill_one)
    _note(trial, "kill -9 of one of two replicas", took, outcomes_of(answers))


async def _beside_load(
    trial: Trial, change: Callable[[], Awaitable[float]]
) -> tuple[list[Answer], float]:
    """All requests that were sent until the change was over, and a moment longer."""
    front, over = await trial.front(), asyncio.Event()
    sent: list[asyncio.Task[Answer]] = []

    async def keep_sending() -> None:
        began = time.monotonic()
        for request in trial.steady(3600.0, seed=7, replicas=1).requests():
            await asyncio.sleep(max(0.0, began + request.arrived_at - time.monotonic()))
            if over.is_set():
                return
            sent.append(asyncio.create_task(front.ask(request)))

    sending = asyncio.create_task(keep_sending())
    await asyncio.sleep(AFTER_SECONDS)
    try:
        took = await change()
        await asyncio.sleep(AFTER_SECONDS)
    finally:
        over.set()
        await sending
        answers = await asyncio.gather(*sent)
    return list(answers), took


def _note(trial: Trial, what: str, took: float, found: Outcomes, also: str = "–") -> None:
    row = {"what": what, "seconds": f"{took:.1f}", **found.row(), "also": also}
    trial.record.add(CHANGES, row)
