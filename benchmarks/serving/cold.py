"""Cold scenarios: adapters that are in no tier, one at a time and many at a moment."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.common.client import Client, at_times, quantile
from benchmarks.serving.plan import Plan

_ASKED = 15
_READERS = 4
WHERE = ("resident", "page cache", "disk")


async def cold(asking: Client, plan: Plan) -> dict[str, float]:
    """First tokens of one request after the other: resident, and cold with its file in the page
    cache and only on the disk, in turn. Beside the latter, what a plain read of such files takes.
    """
    figures: dict[str, float] = {}
    for tokens in plan.prompt_lengths:
        for _ in range(2):
            await asking.ask(plan.adapters[0], max_tokens=2, prompt_tokens=tokens)
        first: dict[str, list[float]] = {where: [] for where in WHERE}
        for _ in range(_ASKED):
            for where in WHERE:
                model = plan.adapters[0] if where == "resident" else plan.next_cold(1)[0]
                first[where].append(await _first_ms(asking, plan, model, where, tokens))
        for where, times in first.items():
            figures[f"{tokens} tokens, {where} first token p50 ms"] = median(times)
    paths = [plan.weights[model] for model in plan.next_cold(_ASKED)]
    figures["disk's own p50 ms"] = await asyncio.to_thread(_read_from_disk, paths)
    return figures


async def _first_ms(asking: Client, plan: Plan, model: str, where: str, tokens: int) -> float:
    if where == "page cache":
        await asyncio.to_thread(_read, plan.weights[model], 1)
    elif where == "disk":
        await asyncio.to_thread(drop_from_page_cache, plan.weights[model])
    answer = await asking.ask(model, max_tokens=2, prompt_tokens=tokens)
    return answer.first_token_seconds * 1000


def drop_from_page_cache(path: Path) -> None:
    """Written pages only: the others must be on the disk first."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _read_from_disk(paths: Sequence[Path]) -> float:
    """Milliseconds for a file: the least of one reader's and of several readers' medians."""
    medians = []
    for readers in (1, _READERS):
        times = []
        for path in paths[readers % 2 :: 2]:
            drop_from_page_cache(path)
            began = time.perf_counter()
            _read(path, readers)
            times.append((time.perf_counter() - began) * 1000)
        medians.append(median(times))
    return min(medians)


def _read(path: Path, readers: int) -> None:
    whole = bytearray(path.stat().st_size)
    view, part = memoryview(whole), -(-len(whole) // readers)

    def read(start: int) -> None:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            left = view[start : start + part]
            while left and (count := file.readinto(left)):
                left = left[count:]

    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(read, range(0, len(whole), part)))


async def herd(asking: Client, plan: Plan) -> dict[str, float]:
    """As many cold adapters as host memory holds, all requested at one moment."""
    turn = "first" if plan.herds == 0 else "later"
    plan.herds += 1
    models = plan.next_cold(plan.host_capacity)
    began = time.perf_counter()
    answers = await at_times(asking, [(0.0, model) for model in models], max_tokens=16)
    first = [answer.first_token_seconds * 1000 for answer in answers]
    return {
        f"{turn} time: first token p50 ms": quantile(first, 0.5),
        f"{turn} time: first token max ms": max(first),
        f"{turn} time: all done ms": (time.perf_counter() - began) * 1000,
        f"{turn} time: errors": sum(answer.error is not None for answer in answers),
    }
