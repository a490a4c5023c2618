"""Comparison of a running Adaptry with transformers and PEFT, by the log probabilities of tokens.

The yardstick is the base model's own difference between the two, in the same dtypes.
"""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.common.client import quantile
from benchmarks.right.families import Family
from benchmarks.right.reference import Reference
from benchmarks.right.serving import GENERATED_TOKENS, Answer, ask_all
from benchmarks.right.training import make_models, prompts

LARGEST_PART_OF_EFFECT = 0.1
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """`steps`: of the base model's training, of `batch` texts each. `prompts`: for each adapter.

    `streams`: how many run all the while. `arguments`: more of the server. `without`: kinds that
    are not asked, as this vLLM doesn't serve them.
    """

    family: Family
    dtype: str
    device: str
    steps: int
    batch: int
    prompts: int
    streams: int
    arguments: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


def measure(plan: Plan, folder: Path) -> tuple[list[Row], dict[str, float]]:
    """A row for the base model and each adapter, and evictions by tier."""
    kinds = plan.family.kinds
    base_folder = make_models(folder, plan.family, plan.device, plan.steps, plan.batch)
    base, adapters = base_folder.name, folder / "adapters"
    names = [name for name in (base, *kinds) if name not in plan.without]
    asked_of = {name: prompts(base_folder, kinds, name, plan.prompts) for name in names}
    with tempfile.TemporaryDirectory() as state:
        run = ask_all(
            base_folder, adapters, asked_of, Path(state), arguments_of(plan), plan.streams
        )
        answers, evictions = asyncio.run(run)
    dtype = plan.family.reference_dtype or plan.dtype
    reference = Reference(base_folder, folder / "trained", dtype, plan.device)
    return [compare(name, base, found, reference) for name, found in answers.items()], evictions


def arguments_of(plan: Plan) -> list[str]:
    arguments = [f"--dtype={plan.dtype}", *plan.family.arguments]
    if plan.device == "cuda":
        arguments += ["--gpu-memory-utilization=0.3", "--kv-cache-memory-bytes=4294967296"]
    else:
        arguments.append("--kv-cache-memory-bytes=268435456")
    return [*arguments, *plan.arguments]


def compare(name: str, base: str, answers: list[Answer], reference: Reference) -> Row:
    """Differences of log probabilities. `effect`: how far the adapter moves the base's own.

    `chosen alike`: the share of generated tokens that are the reference's likeliest too.
    """
    sequences = [answer.tokens for answer in answers]
    scores = reference.scores(name, sequences)
    expected = [value for each in scores for value in each.logprobs]
    chosen = [value for each in scores for value in each.likeliest[-GENERATED_TOKENS:]]
    found = [value for answer in answers for value in answer.logprobs]
    unadapted = [value for each in reference.scores(base, sequences) for value in each.logprobs]
    off = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    moved = [abs(a - b) for a, b in zip(expected, unadapted, strict=True)]
    return {
        "adapter": name,
        "tokens": len(off),
        "mean": mean(off),
        "p99": quantile(off, 0.99),
        "largest": max(off),
        "effect": mean(moved),
        "chosen alike": mean(chosen),
    }


def judge(rows: list[Row], most: float) -> bool:
    """Adds `÷ base` and `right` to each row. The first row is the base's."""
    yardstick = rows[0]["mean"]
    for row in rows:
        row["÷ base"] = row["mean"] / yardstick
        small = row["mean"] <= LARGEST_PART_OF_EFFECT * row["effect"] or row is rows[0]
        row["right"] = row["÷ base"] <= most and small
    return all(row["right"] for row in rows)
