"""Activation benchmark, host memory to slot: our copy, vLLM's own, and a plain copy of the bytes.

    python -m benchmarks.activation --shape small        (on a CPU)
    python -m benchmarks.activation --shape llama-8b     (on an H100)

Exits with 1 if a slot does not hold, bit for bit, what vLLM itself puts there.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from vllm import LLM

from benchmarks.common.environment import stay_offline
from benchmarks.common.tables import machine, print_table
from benchmarks.common.workload import SHAPES, Shape, weights_bytes, write_adapter, write_base_model

MAX_RANK = 16
RANKS = (16, 8)


def measure(shape: Shape, folder: Path) -> list[dict[str, Any]]:
    """One row of medians per rank, in milliseconds."""
    llm = LLM(
        model=str(write_base_model(folder, shape)),
        load_format="dummy",
        dtype=shape.dtype,
        enable_lora=True,
        max_loras=2,
        max_cpu_loras=4,
        max_lora_rank=MAX_RANK,
        max_model_len=512,
        max_num_seqs=8,
        enforce_eager=True,
        kv_cache_memory_bytes=256 * 2**20,
        worker_extension_cls="benchmarks.activation.probe.ActivationProbe",
    )
    rows = []
    for rank in RANKS:
        adapter = write_adapter(folder, f"rank-{rank}", shape, rank=rank, seed=rank)
        (answer,) = llm.collective_rpc("probe", args=(str(adapter),))
        rows.append({"rank": rank, "bytes": weights_bytes(adapter), **answer})
    return rows


def report(rows: list[dict[str, Any]]) -> None:
    table = []
    for row in rows:
        copy_ms = statistics.median(row["copy_ms"])
        for who in ("ours", "stock"):
            activate_ms = statistics.median(row[who]["activate_ms"])
            table.append(
                {
                    "who": who,
                    "rank": row["rank"],
                    "MB": f"{row['bytes'] / 1e6:.1f}",
                    "file → host ms": f"{statistics.median(row[who]['load_ms']):.2f}",
                    "host → slot ms": f"{activate_ms:.2f}",
                    "one copy ms": f"{copy_ms:.2f}",
                    "÷ one copy": f"{activate_ms / copy_ms:.2f}",
                    "same slot": "yes" if row["same_slot"] else "NO",
                }
            )
        enqueued = statistics.median(row["ours"]["enqueue_ms"])
        print(f"rank {row['rank']}: our copy keeps the engine's thread for {enqueued:.2f} ms")
        reads = ", ".join(f"{n}: {statistics.median(ms):.2f}" for n, ms in row["read_ms"].items())
        print(f"rank {row['rank']}: reading the file takes, by threads, ms: {reads}")
    print_table(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--json", type=Path, help="also write all passes here")
    arguments = parser.parse_args()
    stay_offline()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(SHAPES[arguments.shape], Path(folder))
    print(machine())
    report(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    if not all(row["same_slot"] and not row["ours"]["untraceable"] for row in rows):
        sys.exit("a slot differs from vLLM's, or was filled by vLLM itself")


if __name__ == "__main__":
    main()
