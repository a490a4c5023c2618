"""Targets of a fleet's trial, held against its rows."""

import math
from collections.abc import Mapping, Sequence

from benchmarks.serving.goodput import GOOD_SHARE

Rows = Sequence[Mapping[str, object]]

LOADS, GOODPUT, CHANGES = "loads", "goodput", "faults and changes"  # phases
GOODPUT_RATIO = 1.9
LOADS_RATIO = 0.7
SIMULATED_DIFFERENCE = 0.03


def judge(rows: Mapping[str, Rows]) -> list[dict[str, str]]:
    """One row for each target whose phase was run."""
    judged = []
    loads = {str(row["routing"]): _number(row["loads"]) for row in rows.get(LOADS, ())}
    if loads:
        ours, at_random, simulated = (
            loads.get(routing, math.nan)
            for routing in ("two replicas, ours", "two replicas, random", "their simulation, ours")
        )
        judged += [
            _judge("loads, our routing ÷ at random", ours / at_random, LOADS_RATIO),
            _judge(
                "loads, simulation against two replicas",
                abs(simulated - ours) / ours,
                SIMULATED_DIFFERENCE,
            ),
        ]
    two, one = (goodput(rows.get(GOODPUT, ()), replicas) for replicas in (2, 1))
    if not math.isnan(one):
        what = f"goodput, two replicas ÷ one ({two:g} ÷ {one:g} requests/s)"
        judged.append(_judge(what, two / one if one else 0.0, GOODPUT_RATIO, at_least=True))
    for row in rows.get(CHANGES, ()):
        judged.append(_judge(f"lost requests, {row['what']}", _number(row["lost"]), 0))
    return judged


def goodput(rows: Rows, replicas: int) -> float:
    """The most requests/s within the limit, at a rate of which nine in ten are. NaN: not run."""
    own = [row for row in rows if row["replicas"] == replicas]
    met = [row for row in own if _number(str(row["within"]).rstrip("%")) >= GOOD_SHARE * 100]
    good = max((_number(row["good requests/s"]) for row in met), default=0.0)
    return good if own else math.nan


def _number(value: object) -> float:
    return float(str(value))


def _judge(what: str, found: float, limit: float, *, at_least: bool = False) -> dict[str, str]:
    met = found >= limit if at_least else found <= limit
    return {
        "what": what,
        "must be": f"{'≥' if at_least else '≤'} {limit:g}",
        "is": f"{found:.3g}",
        "reached": "yes" if met else "no",
    }
