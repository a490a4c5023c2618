r"""Right weights: log probabilities of a running Adaptry against transformers with PEFT.

    python -m benchmarks.right --dtype bfloat16                      (on a GPU)
    python -m benchmarks.right --dtype float16 --eager
On a CPU:
    OMP_NUM_THREADS=1 python -m benchmarks.right --dtype float32 --eager --steps 40 --batch 2 \
        --prompts 1 --streams 1

With vLLM 0.26, which ignores ranks and alphas by module, so that such adapters are refused:
    python -m benchmarks.right --without rank-pattern alpha-pattern

With the experts of a mixture (on a GPU; the CPU build can't compute them with adapters):
    python -m benchmarks.right --family qwen3-moe

The yardstick is the base model's own difference between the two, in the same dtypes. Exits with 1
if an adapter differs more than `--most` times as much, or by more than a tenth of its own effect.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.common.environment import stay_offline
from benchmarks.common.tables import machine, print_table
from benchmarks.right.comparison import Plan, Row, arguments_of, judge, measure
from benchmarks.right.families import FAMILIES


def report(rows: list[Row]) -> None:
    numbers = ("mean", "p99", "largest", "effect")
    shown = [
        {
            **row,
            **{name: f"{row[name]:.2g}" for name in numbers},
            "chosen alike": f"{row['chosen alike']:.1%}",
            "÷ base": f"{row['÷ base']:.2f}",
            "right": "yes" if row["right"] else "NO",
        }
        for row in rows
    ]
    print_table(shown)


def plan_of(asked: argparse.Namespace) -> Plan:
    arguments = [f"--tensor-parallel-size={asked.tensor_parallel}"]
    if asked.eager:
        arguments.append("--enforce-eager")
    return Plan(
        FAMILIES[asked.family],
        asked.dtype,
        "cuda" if torch.cuda.is_available() else "cpu",
        steps=asked.steps,
        batch=asked.batch,
        prompts=asked.prompts,
        streams=asked.streams,
        arguments=(*arguments, *asked.argument),
        without=tuple(asked.without),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--family", choices=FAMILIES, default="llama", help="of the base model")
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    parser.add_argument("--tensor-parallel", type=int, default=1, metavar="N")
    parser.add_argument("--argument", action="append", default=[], help="another one of the server")
    parser.add_argument("--steps", type=int, default=800, help="of the base model's training")
    parser.add_argument("--batch", type=int, default=24, help="texts for each step of training")
    parser.add_argument("--prompts", type=int, default=16, help="for each adapter")
    parser.add_argument("--streams", type=int, default=4, help="that run all the while")
    parser.add_argument("--without", nargs="+", default=[], metavar="KIND", help="not asked")
    parser.add_argument("--most", type=float, default=2.0, help="times the base's difference")
    parser.add_argument("--work", type=Path, help="make the models here, and keep them")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    asked = parser.parse_args()
    plan = plan_of(asked)
    stay_offline()
    with tempfile.TemporaryDirectory() as folder:
        rows, evictions = measure(plan, asked.work or Path(folder))
    right = judge(rows, asked.most)
    print(machine())
    print(f"{' '.join(arguments_of(plan))}; evictions by tier: {evictions}")
    report(rows)
    if asked.json:
        asked.json.write_text(json.dumps({"rows": rows, "evictions": evictions}, indent=1))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
