"""Page of the sizing benchmark: what was predicted and measured, for docs/operations/sizing.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.common.tables import table_of
from benchmarks.sizing.measured import Errors, Measured, difference
from benchmarks.sizing.runs import Run

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations" / "sizing.md"
START = "<!-- predictions: written by benchmarks.sizing -->\n\n"
END = "\n<!-- end of the predictions -->"


@dataclass(frozen=True, slots=True)
class Compared:
    """One run of ours, and how far its prediction was off."""

    run: Run
    measured: Measured
    errors: Errors


def block_of(
    machine: str, rows: Sequence[Mapping[str, object]], compared: Sequence[Compared]
) -> str:
    """`compared`: the first is the one that was calibrated."""
    first, *held_out = compared
    count = first.measured.requests
    lines = [f"{machine}. {count:,} requests in each half; the first row was calibrated.", ""]
    lines += [
        table_of(rows),
        "",
        f"Predictions were off by {_worst([x.errors for x in held_out])}.",
    ]
    if apart := list(_apart(held_out)):
        lines[-1] += f" Two runs of the same setting were apart by {_worst(apart)}."
    return "\n".join(lines) + "\n"


def _apart(compared: Sequence[Compared]) -> list[Errors]:
    """Of each setting that was run again, as if the first run had predicted the second."""
    firsts = {x.run.setting: x.measured for x in compared if x.run.kind == "ours"}
    return [
        difference(firsts[x.run.setting], x.measured) for x in compared if x.run.kind == "again"
    ]


def _worst(errors: Sequence[Errors]) -> str:
    most = {each.name: max(abs(getattr(x, each.name)) for x in errors) for each in fields(Errors)}
    hits = max(most["slot_hits"], most["memory_hits"])
    return (
        f"up to {most['loads']:.1%} of the loads, {hits * 100:.1f} points of the hits, "
        f"{most['first_token_p50']:.0%} of the first token's p50 and "
        f"{most['first_token_p99']:.0%} of its p99"
    )


def write(block: str, document: Path = DOCUMENT) -> None:
    text = document.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    document.write_text(f"{before}{START}{block}{END}{after}", encoding="utf-8")
