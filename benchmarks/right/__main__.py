r"""Right weights: log probabilities of a running Adaptry against transformers with PEFT.

    python -m benchmarks.right --dtype bfloat16                      (on a GPU)
    python -m benchmarks.right --dtype float16 --eager
On a CPU:
    OMP_NUM_THREADS=1 python -m benchmarks.right --dtype float32 --eager --steps 40 --batch 2 \
        --prompts 1 --streams 1

The yardstick is the base model's own difference between the two, in the same dtype. Exits with 1 if
an adapter differs more than `--most` times as much, or by more than a tenth of its own effect.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.common.client import quantile
from benchmarks.common.environment import stay_offline
from benchmarks.common.tables import machine, print_table
from benchmarks.right.kinds import KINDS
from benchmarks.right.reference import Reference
from benchmarks.right.serving import Answer, ask_all
from benchmarks.right.training import make_models, prompts

LARGEST_PART_OF_EFFECT = 0.1
Row = dict[str, Any]


def compare(name: str, base: str, answers: list[Answer], reference: Reference) -> Row:
    """Differences of log probabilities. `effect`: how far the adapter moves the base's own."""
    sequences = [answer.tokens for answer in answers]
    expected = [value for each in reference.logprobs(name, sequences) for value in each]
    found = [value for answer in answers for value in answer.logprobs]
    unadapted = [value for each in reference.logprobs(base, sequences) for value in each]
    off = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    moved = [abs(a - b) for a, b in zip(expected, unadapted, strict=True)]
    return {
        "adapter": name,
        "tokens": len(off),
        "mean": mean(off),
        "p99": quantile(off, 0.99),
        "largest": max(off),
        "effect": mean(moved),
    }


def judge(rows: list[Row], most: float) -> bool:
    """Adds `÷ base` and `right` to each row. The first row is the base's."""
    yardstick = rows[0]["mean"]
    for row in rows:
        row["÷ base"] = row["mean"] / yardstick
        small = row["mean"] <= LARGEST_PART_OF_EFFECT * row["effect"] or row is rows[0]
        row["right"] = row["÷ base"] <= most and small
    return all(row["right"] for row in rows)


def report(rows: list[Row]) -> None:
    numbers = ("mean", "p99", "largest", "effect")
    shown = [
        {
            **row,
            **{name: f"{row[name]:.2g}" for name in numbers},
            "÷ base": f"{row['÷ base']:.2f}",
            "right": "yes" if row["right"] else "NO",
        }
        for row in rows
    ]
    print_table(shown)


def arguments_of(asked: argparse.Namespace) -> list[str]:
    arguments = [f"--dtype={asked.dtype}", f"--tensor-parallel-size={asked.tensor_parallel}"]
    if asked.eager:
        arguments.append("--enforce-eager")
    if asked.cuda:
        arguments += ["--gpu-memory-utilization=0.3", "--kv-cache-memory-bytes=4294967296"]
    else:
        arguments.append("--kv-cache-memory-bytes=268435456")
    return [*arguments, *asked.argument]


def measure(asked: argparse.Namespace, folder: Path) -> tuple[list[Row], dict[str, float]]:
    device = "cuda" if asked.cuda else "cpu"
    base_folder = make_models(folder, device, asked.steps, asked.batch)
    base, adapters = base_folder.name, folder / "adapters"
    asked_of = {name: prompts(base_folder, name, asked.prompts) for name in (base, *KINDS)}
    with tempfile.TemporaryDirectory() as state:
        arguments = arguments_of(asked)
        run = ask_all(base_folder, adapters, asked_of, Path(state), arguments, asked.streams)
        answers, evictions = asyncio.run(run)
    reference = Reference(base_folder, adapters, asked.dtype, device)
    return [compare(name, base, found, reference) for name, found in answers.items()], evictions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    parser.add_argument("--tensor-parallel", type=int, default=1, metavar="N")
    parser.add_argument("--argument", action="append", default=[], help="another one of the server")
    parser.add_argument("--steps", type=int, default=800, help="of the base model's training")
    parser.add_argument("--batch", type=int, default=24, help="texts for each step of training")
    parser.add_argument("--prompts", type=int, default=16, help="for each adapter")
    parser.add_argument("--streams", type=int, default=4, help="that run all the while")
    parser.add_argument("--most", type=float, default=2.0, help="times the base's difference")
    parser.add_argument("--work", type=Path, help="make the models here, and keep them")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    asked = parser.parse_args()
    asked.cuda = torch.cuda.is_available()
    stay_offline()
    with tempfile.TemporaryDirectory() as folder:
        rows, evictions = measure(asked, asked.work or Path(folder))
    right = judge(rows, asked.most)
    print(machine())
    print(f"{' '.join(arguments_of(asked))}; evictions by tier: {evictions}")
    report(rows)
    if asked.json:
        asked.json.write_text(json.dumps({"rows": rows, "evictions": evictions}, indent=1))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
