"""The layer's cost at saturation: all adapters resident, more streams than one process serves.

    OMP_NUM_THREADS=1 python -m benchmarks.saturation --machine cpu
    OMP_NUM_THREADS=1 python -m benchmarks.saturation --machine cpu-128 --prefix-caching
    python -m benchmarks.saturation --machine h200-8b --rounds 3
    python -m benchmarks.saturation --machine h200-1b --rounds 3 --prefix-caching --prompts both

Stock and ours run both, and are asked in turn, A-B-B-A. Each load comes from several processes.
`--prompts both` measures, with one start of each engine, a prefix cache that finds every prompt and
one that finds none; the latter hashes each prompt, unlike an engine without `--prefix-caching`.
`--answers both` likewise: of equal lengths, whose streams begin together, and of varied ones.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.common.client import quantile
from benchmarks.common.environment import stay_offline
from benchmarks.common.servers import Limits, Side, both
from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, write_adapter, write_base_model

Figures = dict[str, float]
Blocks = dict[str, list[Figures]]
"""By side."""
PROMPTS = ("repeated", "fresh")
ANSWERS = ("equal", "varied")
Kind = tuple[str, str]
"""Prompts and answers."""


@dataclass(frozen=True)
class Machine:
    shape: str
    slots: int
    streams: int
    tokens: int
    prompt_tokens: int
    clients: int  # processes
    arguments: tuple[str, ...]


def _cpu(requests: int, kv_bytes: int) -> tuple[str, ...]:
    return (
        "--enforce-eager",
        "--max-model-len=512",
        f"--max-num-seqs={requests}",
        f"--kv-cache-memory-bytes={kv_bytes}",
        "--distributed-executor-backend=mp",  # stock's on a CPU; ours would run in one process
    )


def _gpu(share: str, streams: int) -> tuple[str, ...]:
    sizes = [1, 2, 4, 8, *range(16, streams + 1, 16), 384, 512, 1024]  # prompts beside streams too
    return (
        "--max-model-len=4096",
        f"--max-num-seqs={streams}",
        f"--gpu-memory-utilization={share}",
        "--kv-cache-memory-bytes=4294967296",
        f'--compilation-config={{"cudagraph_capture_sizes": {sizes}}}',
    )


MACHINES = {
    "cpu": Machine("tiny", 2, 8, 32, 8, 1, _cpu(16, 2**27)),
    "cpu-128": Machine("tiny", 16, 128, 64, 64, 1, _cpu(128, 2**28)),
    "h200-8b": Machine("llama-8b", 16, 128, 64, 64, 4, _gpu("0.2", 128)),
    "h200-1b": Machine("llama-1b", 16, 256, 64, 64, 6, _gpu("0.2", 256)),
}


def load(side: Side, chosen: Machine, seconds: float, seed: int, kind: Kind) -> Figures:
    """One block. CPU time is that of the server's own process, which serves HTTP."""
    port = side.base_url.rpartition(":")[2]
    models = ",".join(f"a{n:03d}" for n in range(chosen.slots))
    each = chosen.streams // chosen.clients
    process = psutil.Process(side.process.pid)
    before = process.cpu_times()
    clients = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.saturation.load", port, models),
                *(str(each), str(seconds), str(chosen.tokens), str(chosen.prompt_tokens)),
                *(str(seed * 1000 + n), *kind),
            ],
            stdout=subprocess.PIPE,
        )
        for n in range(chosen.clients)
    ]
    tallies: list[dict[str, Any]] = [json.loads(client.communicate()[0]) for client in clients]
    after = process.cpu_times()
    if any(tally["errors"] for tally in tallies):
        raise RuntimeError(f"{side.name}: requests failed: {side.last_words()}")
    tokens = sum(tally["tokens"] for tally in tallies)
    first = [s * 1000 for tally in tallies for s in tally["first_token_seconds"]]
    cpu_seconds = after.user + after.system - before.user - before.system
    requests = sum(tally["requests"] for tally in tallies)
    return {
        "tokens/s": tokens / seconds,
        "first token p50 ms": quantile(first, 0.5),
        "first token p99 ms": quantile(first, 0.99),
        "server CPU µs/request": cpu_seconds / requests * 1e6,  # with all of its tokens
        "server CPU µs/token": cpu_seconds / (requests * chosen.tokens) * 1e6,
    }


def report(blocks: Blocks) -> None:
    rows = []
    for figure in blocks["ours"][0]:
        ours, stock = (median(block[figure] for block in blocks[s]) for s in ("ours", "stock"))
        rows.append(
            {
                "figure": figure,
                "stock": f"{stock:.4g}",
                "ours": f"{ours:.4g}",
                "ours ÷ stock": f"{ours / stock:.3f}",
                "ours - stock": f"{ours - stock:+.4g}",
                "blocks of stock": " ".join(f"{b[figure]:.4g}" for b in blocks["stock"]),
                "blocks of ours": " ".join(f"{b[figure]:.4g}" for b in blocks["ours"]),
            }
        )
    print_table(rows)


async def run(asked: argparse.Namespace) -> dict[Kind, Blocks]:
    chosen = MACHINES[asked.machine]
    limits = Limits(
        chosen.slots,
        chosen.slots,
        16,
        chosen.arguments,
        prefix_caching=asked.prefix_caching,
    )
    kinds = [*product(_chosen(PROMPTS, asked.prompts), _chosen(ANSWERS, asked.answers))]
    blocks: dict[Kind, Blocks] = {kind: {"stock": [], "ours": []} for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder)
        adapters = work / f"adapters-{chosen.shape}"
        for number in range(chosen.slots):
            write_adapter(adapters, f"a{number:03d}", SHAPES[chosen.shape], rank=16, seed=number)
        base = write_base_model(work, SHAPES[chosen.shape])
        state, logs = Path(folder) / "state", asked.logs or Path(folder)
        state.mkdir()
        logs.mkdir(parents=True, exist_ok=True)
        async with both(base, adapters, limits, logs, state) as (stock, ours):
            for side in (stock, ours):
                await asyncio.to_thread(load, side, chosen, 3.0, 0, kinds[0])
            turns = [(kind, side) for kind in kinds for side in (stock, ours, ours, stock)]
            for number, (kind, side) in enumerate(turns * asked.rounds, start=1):
                figures = await asyncio.to_thread(load, side, chosen, asked.seconds, number, kind)
                blocks[kind][side.name].append(figures)
                print(f"# {side.name}, {described(kind)}: {figures}", flush=True)
    return blocks


def _chosen(kinds: Sequence[str], asked: str) -> Sequence[str]:
    return kinds if asked == "both" else (asked,)


def described(kind: Kind) -> str:
    prompts, answers = kind
    return f"{prompts} prompts, {answers} answers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machine", choices=MACHINES, default="cpu")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each block")
    parser.add_argument("--rounds", type=int, default=2, help="of A-B-B-A")
    parser.add_argument("--prefix-caching", action="store_true", help="on, as is vLLM's default")
    parser.add_argument("--prompts", choices=[*PROMPTS, "both"], default="repeated")
    parser.add_argument("--answers", choices=[*ANSWERS, "both"], default="equal")
    parser.add_argument("--work", type=Path, help="make model and adapters here, and keep them")
    parser.add_argument("--logs", type=Path, help="keep the servers' logs here")
    parser.add_argument("--json", type=Path, help="also write every block here")
    asked = parser.parse_args()
    stay_offline()
    blocks = asyncio.run(run(asked))
    print(machine())
    for kind, measured in blocks.items():
        print(described(kind))
        report(measured)
    if asked.json:
        named = {described(kind): measured for kind, measured in blocks.items()}
        asked.json.write_text(json.dumps(named, indent=1))


if __name__ == "__main__":
    main()
