"""Fairness benchmark: waits of hot and cold adapters, by generation length and waiting adapters.

    python -m benchmarks.fairness [--figure docs/assets/fairness-sweep.svg]

Simulated time over the fake engine: the real controller decides, nothing depends on the machine.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.tables import print_table
from benchmarks.fairness.figure import draw
from benchmarks.fairness.sweep import SLOTS, STREAMS_PER_HOT, Waits, measure
from engine.types import AdmissionLimits

GENERATIONS = (1.0, 3.0, 10.0, 30.0, 60.0, 180.0)
WAITING = (1, 10, 32, 100, 500)

Cell = tuple[float, int]


def row(cell: Cell, waits: Waits) -> dict[str, object]:
    generation, waiting = cell
    return {
        "generation, s": f"{generation:g}",
        "waiting": waiting,
        "cold p50, s": _seconds(waits.cold, 0.5),
        "cold max, s": _seconds(waits.cold, 1.0),
        "all served in, s": f"{waits.seconds:.0f}",
        "hot p50, s": _seconds(waits.hot, 0.5),
        "hot p99, s": _seconds(waits.hot, 0.99),
        "hot max, s": _seconds(waits.hot, 1.0),
        "timed out": waits.timed_out,
    }


def _seconds(values: Sequence[float], share: float) -> str:
    if not values:
        return "–"
    return f"{sorted(values)[min(int(share * len(values)), len(values) - 1)]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=float, nargs="+", default=GENERATIONS)
    parser.add_argument("--waiting", type=int, nargs="+", default=WAITING)
    parser.add_argument("--slot-timeout", type=float, default=120.0, help="seconds")
    parser.add_argument("--figure", type=Path, help="also draw it into this SVG file")
    arguments = parser.parse_args()
    limits = AdmissionLimits(slot_timeout_seconds=arguments.slot_timeout)
    found = {
        (generation, waiting): measure(generation, waiting, limits)
        for generation in arguments.generations
        for waiting in arguments.waiting
    }
    print(f"{SLOTS} slots, each with {STREAMS_PER_HOT} streams of a hot adapter; {limits}")
    print_table([row(cell, waits) for cell, waits in found.items()])
    if arguments.figure is not None:
        cold = {cell: statistics.median(each.cold or [0.0]) for cell, each in found.items()}
        hot = {cell: max(each.hot, default=0.0) for cell, each in found.items()}
        panels = {"median wait of a cold adapter": cold, "longest wait of a hot adapter": hot}
        arguments.figure.write_text(draw(panels))


if __name__ == "__main__":
    main()
