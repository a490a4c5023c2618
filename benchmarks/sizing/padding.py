"""Padding of slots: what a larger `--max-lora-rank` costs adapters of a small rank.

    OMP_NUM_THREADS=1 python -m benchmarks.sizing.padding
    python -m benchmarks.sizing.padding --machine h200

An engine for each largest rank, all started together, serve the same adapters of rank 8 in turn.
A step's time is that of the tokens between a short and a long generation, the median of passes.
Most of the time is the start, during which the adapters are written.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, write_adapters, write_base_model
from benchmarks.sizing.padded_engine import Machine, serve

RANK = 8

MACHINES = {
    "cpu": Machine("small", 4, (8, 40), 3, {"enforce_eager": True, "kv_cache_memory_bytes": 2**27}),
    "h200": Machine(
        "llama-8b",
        16,
        (8, 136),
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
    base = str(write_base_model(folder, SHAPES[chosen.shape]))
    engines = {rank: _start(base, chosen, rank) for rank in ranks}
    names = [f"a{n}" for n in range(chosen.slots)]
    written = write_adapters(folder, names, SHAPES[chosen.shape], rank=RANK)
    for engine, _ in engines.values():
        engine.send(list(map(str, written)))
    slots = {rank: engine.recv() / chosen.slots for rank, (engine, _) in engines.items()}
    steps = {
        streams: {rank: _ask(engine, streams) for rank, (engine, _) in engines.items()}
        for streams in (1, chosen.slots)
    }
    for engine, child in engines.values():
        engine.send(None)
        child.join()
    return [_row(rank, slots, steps) for rank in ranks]


def _start(base: str, chosen: Machine, rank: int) -> tuple[Connection, SpawnProcess]:
    """A daemon: it ends with this process, also if that ends by an error while others still run."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    child = spawning.Process(target=serve, args=(base, chosen, rank, theirs), daemon=True)
    child.start()
    theirs.close()
    return ours, child


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
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 64, 128])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(MACHINES[arguments.machine], arguments.ranks, Path(folder))
    print(machine())
    print_table(rows)


if __name__ == "__main__":
    main()
