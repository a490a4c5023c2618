"""Report of a soak, as JSON to store and as Markdown to read."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.tables import print_table
from benchmarks.soak.resources import MIB, Flatness, Sample, flatness

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Result:
    """`cores`: CPU time of the server, its engine and all clients over the time it took."""

    command: str
    machine: str
    minutes: float
    cores: float
    done: dict[str, int]
    events: int
    wrong: list[str]
    samples: list[Sample]

    @property
    def flatness(self) -> list[Flatness]:
        return flatness(self.samples)

    @property
    def held(self) -> bool:
        return not self.wrong and all(each.is_flat for each in self.flatness)

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(file: Path) -> Result:
    content: dict[str, Any] = json.loads(file.read_text())
    content["samples"] = [Sample(**each) for each in content["samples"]]
    return Result(**content)


def show(result: Result) -> None:
    print(f"    {result.command}\n\n{result.machine}; {result.minutes:.1f} minutes,", end=" ")
    print(f"{result.cores:.2f} cores, clients included\n")
    print_table([{"what": what.strip(), "how often": f"{n:,}"} for what, n in result.done.items()])
    print()
    print_table([_row(each) for each in result.flatness])
    print()
    for text in _faults(result.wrong, result.flatness):
        print(text)


def _row(each: Flatness) -> dict[str, object]:
    return {
        "figure": each.what,
        "level": _number(each.level, each.unit),
        "grew by": _number(each.growth, each.unit),
        "may grow by": _number(each.allowed, each.unit),
        "flat": "yes" if each.is_flat else "NO",
    }


def _number(value: float, unit: str) -> str:
    return f"{value / MIB:,.1f} MiB" if unit == "MiB" else f"{value:,.0f}"


def _faults(wrong: Sequence[str], flat: Sequence[Flatness]) -> list[str]:
    grown = [f"NOT FLAT: {each.what}" for each in flat if not each.is_flat]
    more = [f"… and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
    found = [*(f"WRONG: {text}" for text in wrong[:SHOWN]), *more, *grown]
    return found or ["Nothing was wrong, nothing grew."]
