"""Padding of slots: what a larger `--max-lora-rank` costs adapters of a small rank.

    OMP_NUM_THREADS=1 python -m benchmarks.sizing.padding
    python -m benchmarks.sizing.padding --machine h200

An engine for each largest rank, all started together, serve the same adapters of rank 8 in turn.
A step's time is that of the tokens between a short and a long generation, the median of passes.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, write_adapter, write_base_model
from benchmarks.sizing.padded_engine import Machine, serve

RANK = 8

MACHINES = {
    "cpu": Machine("small", 4, (8, 40), 3, {"enforce_eager": True, "kv_cache_memory_bytes": 2**27}),
    "h200": Machine(
        "llama-8b",
        16,
        (16, 272),
        3,
        {
            "gpu_memory_utilization": 0.2,
            "kv_cache_memory_bytes": 2**31,
            "compilation_config": {"cudagraph_capture_sizes": [1, 16]},
        },
    ),
}


def measure(chosen: Machine, ranks: Sequence[int], folder: Path) -> list[dict[str, object]]:
    """Raises EOFError if an engine dies."""
    shape = SHAPES[chosen.shape]
    with ThreadPoolExecutor() as pool:
        written = [
            pool.submit(write_adapter, folder, f"a{n}", shape, rank=RANK, seed=n)
            for n in range(chosen.slots)
        ]
        adapters = [str(each.result()) for each in written]
    base = str(write_base_model(folder, shape))
    spawning = multiprocessing.get_context("spawn")
    engines = []
    for rank in ranks:
        ours, theirs = spawning.Pipe()
        child = spawning.Process(target=serve, args=(base, adapters, chosen, rank, theirs))
        child.start()
        theirs.close()
        engines.append((rank, ours, child))
    slots = {rank: engine.recv() / chosen.slots for rank, engine, _ in engines}
    steps = {
        streams: {rank: _ask(engine, streams) for rank, engine, _ in engines}
        for streams in (1, chosen.slots)
    }
    for _, engine, _ in engines:
        engine.send(None)
    for _, _, child in engines:
        child.join()
    return [_row(rank, slots, steps) for rank in ranks]


def _ask(engine: Connection, streams: int) -> float:
    engine.send(streams)
    answer: float = engine.recv()
    return answer


def _row(
    rank: int, slots: dict[int, float], steps: dict[int, dict[int, float]]
) -> dict[str, object]:
    row: dict[str, object] = {
        "largest rank": rank,
        "one slot": f"{slots[rank] / 2**20:,.1f} MiB",
        "all slots": f"{slots[rank] * max(steps) / 2**30:.2f} GiB",
    }
    for streams, found in steps.items():
        more = found[rank] / next(iter(found.values())) - 1
        named = "1 stream" if streams == 1 else f"{streams} streams"
        row[f"step, {named}"] = f"{found[rank] * 1000:.2f} ms ({more:+.1%})"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--machine", choices=MACHINES, default="cpu")
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 16, 64, 128])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(MACHINES[arguments.machine], arguments.ranks, Path(folder))
    print(machine())
    print_table(rows)


if __name__ == "__main__":
    main()
