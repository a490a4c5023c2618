"""Eviction policies over traces, compared with LRU and with the clairvoyant optimum.

    python -m benchmarks.policies
    python -m benchmarks.policies --trace FILE --requests 2000

The cache policy, its drains and its queue are the server's own, on a virtual clock. See
docs/policy.md.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.policies.comparison import Busy, Quiet, closed, compare_busy, compare_quiet
from benchmarks.policies.traces import GENERATORS, generate, read_trace
from engine.types import EvictionPolicy

MUCH_HELD, LEAST_CLOSED = 0.8, 0.7  # of the gap: where the queue holds that much
LITTLE_HELD, LEAST_CLOSED_OF_HELD = 0.1, 0.5  # of what it holds elsewhere, unless no queue stands
ADAPTIVE, LRU = EvictionPolicy.ADAPTIVE, EvictionPolicy.LRU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=6000, help="of each generated trace")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--trace", type=Path, action="append", default=[], help="an adapter a line; any number"
    )
    parser.add_argument("--only", nargs="*", default=list(GENERATORS), help="generated traces")
    arguments = parser.parse_args()
    traces = {name: generate(name, arguments.requests, arguments.seed) for name in arguments.only}
    traces |= {path.stem: read_trace(path.read_text()) for path in arguments.trace}
    quiet = {name: compare_quiet(used, arguments.seed) for name, used in traces.items()}
    _show_tier("slots", {n: (q.slots, q.best_slots) for n, q in quiet.items()})
    _show_tier("host memory", {n: (q.memory, q.best_memory) for n, q in quiet.items()})
    busy = {name: compare_busy(used, arguments.seed) for name, used in traces.items()}
    _show_busy(busy)
    _check(quiet, busy)


def _show_tier(tier: str, rows: Mapping[str, tuple[Mapping[EvictionPolicy, float], float]]) -> None:
    print(f"\nNo queue: hit ratio of {tier}, %")
    _print_row(["trace", *EvictionPolicy, "optimum", "gap closed"])
    _print_row(["---"] * (len(EvictionPolicy) + 3))
    shares = []
    for name, (missed, best) in rows.items():
        share = closed(missed[LRU], missed[ADAPTIVE], best)
        shares += [] if share is None else [share]
        hits = [_percent(1 - missed[policy]) for policy in EvictionPolicy]
        _print_row([name, *hits, _percent(1 - best), _share(share)])
    print(f"Median share of the gap that the default closes: {_share(statistics.median(shares))}")


def _show_busy(rows: Mapping[str, Busy]) -> None:
    print("\nA queue stands: loads per request")
    columns = ["trace", "mean wait", "LRU, each in turn", "optimum, each in turn"]
    columns += ["ours: lru", "ours: adaptive", "ours: true frequencies", "ours: optimum"]
    columns += ["gap closed", "held by the queue"]
    _print_row(columns)
    _print_row(["---"] * len(columns))
    shares = []
    for name, busy in rows.items():
        share = closed_by_default(busy)
        shares += [] if share is None else [share]
        loads = [busy.in_order, busy.best_in_order, busy.ours[LRU], busy.ours[ADAPTIVE]]
        cells = [f"{each:.3f}" for each in [*loads, busy.by_frequencies, busy.oracle]]
        cells += [_share(share), _share(busy.held_by_queue)]
        _print_row([name, f"{busy.mean_wait_seconds:.2f} s", *cells])
    print(f"Median share of the gap: {_share(statistics.median(shares))}")


def _check(quiet: Mapping[str, Quiet], busy: Mapping[str, Busy]) -> None:
    """Exits with 1 if the default is more than half a point below LRU anywhere, closes less than
    70 % of a gap of which the queue holds 80 %, or less than half of what it holds elsewhere."""
    tiers = [tier for each in quiet.values() for tier in (each.slots, each.memory)]
    worst = max(each[ADAPTIVE] - each[LRU] for each in [*tiers, *(b.ours for b in busy.values())])
    print(f"\nThe default is at most {max(worst, 0) * 100:.2f} points below LRU.")
    if worst > 0.005:
        raise SystemExit("more than half a point")
    _check_queue(busy)


def _check_queue(busy: Mapping[str, Busy]) -> None:
    """`_check`'s last two."""
    shares, of_held = dict[str, float](), dict[str, float]()
    for name, each in busy.items():
        held, share = each.held_by_queue, closed_by_default(each)
        if held is None or share is None or held < LITTLE_HELD:
            continue
        of_held[name] = share / held
        if held >= MUCH_HELD:
            shares[name] = share
    for what, found, least in (
        (f"a gap of which the queue holds {MUCH_HELD:.0%}", shares, LEAST_CLOSED),
        ("what the queue holds of a gap", of_held, LEAST_CLOSED_OF_HELD),
    ):
        if found:
            name = min(found, key=found.__getitem__)
            print(f"Of {what}, at least {found[name]:.0%} is closed ({name}).")
            if found[name] < least:
                raise SystemExit(f"less than {least:.0%}")


def closed_by_default(busy: Busy) -> float | None:
    return closed(busy.in_order, busy.ours[ADAPTIVE], busy.best_in_order)


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.1f}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _print_row(cells: Sequence[str]) -> None:
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
