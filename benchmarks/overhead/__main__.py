"""Overhead of our layer: CPU time per request of the server's process, compared with stock vLLM's.

    OMP_NUM_THREADS=1 python -m benchmarks.overhead

Both sides have the engine's only worker in the engine's process on the CPU build, as Adaptry
always has. One client, one request after the other, adapters resident. CPU time is that of the
process with the API; the engine's is another one on both sides.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import psutil
import torch

from benchmarks.common.client import client
from benchmarks.common.servers import Limits, Side, both
from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, write_adapter, write_base_model

SLOTS = 4
TOKENS = (1, 16)
ARGUMENTS = (
    "--enforce-eager",
    "--max-model-len=256",
    "--max-num-seqs=16",
    "--kv-cache-memory-bytes=67108864",
)

Milliseconds = dict[tuple[str, int], list[float]]


async def measure(requests: int, rounds: int) -> Milliseconds:
    """Per request, by side and by tokens requested: one value per block."""
    found: Milliseconds = defaultdict(list)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for n in range(SLOTS):
            write_adapter(folder / "adapters", f"a{n}", SHAPES["tiny"], rank=8, seed=n)
        (folder / "state").mkdir()
        base = write_base_model(folder, SHAPES["tiny"])
        limits = Limits(SLOTS, 2 * SLOTS, 8, (*ARGUMENTS, *_same_executor()))
        state = folder / "state"
        async with both(base, folder / "adapters", limits, folder, state) as (stock, ours):
            for tokens in TOKENS * rounds:
                for side in (stock, ours, ours, stock):
                    spent = await _per_request(side, requests, tokens)
                    found[side.name, tokens].append(spent)
    return found


def _same_executor() -> tuple[str, ...]:
    if torch.cuda.is_available():
        return ()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return ("--distributed-executor-backend=uni",)


async def _per_request(side: Side, requests: int, tokens: int) -> float:
    process = psutil.Process(side.process.pid)
    async with client(side.base_url) as asking:
        for n in range(4 * SLOTS):
            await asking.ask(f"a{n % SLOTS}", max_tokens=tokens, seed=n)
        before = process.cpu_times()
        for n in range(requests):
            answer = await asking.ask(f"a{n % SLOTS}", max_tokens=tokens, seed=n)
            if answer.error is not None:
                raise RuntimeError(answer.error)
        after = process.cpu_times()
    spent = (after.user + after.system) - (before.user + before.system)
    return spent / requests * 1000


def report(found: Milliseconds) -> None:
    rows = []
    for tokens in TOKENS:
        ours = statistics.median(found["ours", tokens])
        stock = statistics.median(found["stock", tokens])
        rows.append(
            {
                "tokens per request": tokens,
                "ours, CPU ms": f"{ours:.2f}",
                "stock, CPU ms": f"{stock:.2f}",
                "ours - stock": f"{ours - stock:.2f}",
            }
        )
    print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="in each block")
    parser.add_argument("--rounds", type=int, default=3, help="of A-B-B-A")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    found = asyncio.run(measure(arguments.requests, arguments.rounds))
    print(machine())
    report(found)


if __name__ == "__main__":
    main()
