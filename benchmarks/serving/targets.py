"""Targets of the serving benchmark, and their results."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.serving.scenarios import Figures

Blocks = dict[str, dict[str, list[Figures]]]  # scenario → side → one per block


def median(blocks: Sequence[Figures], figure: str) -> float | None:
    """Of the blocks that have it. None if this side was not measured."""
    values = [block[figure] for block in blocks if figure in block]
    return statistics.median(values) if values else None


Value = Callable[[Callable[[str], float]], float]


def _over(ours: float, stock: float) -> float:
    return ours / stock if stock else math.inf


def _minus(ours: float, stock: float) -> float:
    return ours - stock


@dataclass(frozen=True)
class Target:
    """`of` computes a side's value from its medians; `against` compares ours with stock's."""

    what: str
    scenario: str
    of: Value
    limit_cpu: float
    limit_gpu: float
    at_least: bool = False
    against: Callable[[float, float], float] | None = None

    def limit(self, on_gpu: bool) -> float:
        return self.limit_gpu if on_gpu else self.limit_cpu


def _ratio(above: str, below: str) -> Value:
    return lambda of: of(above) / of(below)


def _difference(larger: str, smaller: str) -> Value:
    return lambda of: of(larger) - of(smaller)


def _figure(name: str) -> Value:
    return lambda of: of(name)


TARGETS = (
    Target(
        "inter-token p99 beside cold loads ÷ beside the same requests for a resident adapter",
        "stall",
        _ratio("cold itl p99 ms", "resident itl p99 ms"),
        1.20,
        1.05,
    ),
    Target(
        "first token of a cold adapter over a resident one, ours ÷ stock",
        "stall",
        _difference("cold first token p50 ms", "resident first token p50 ms"),
        0.6,
        0.33,
        against=_over,
    ),
    Target(
        "first token of a cold adapter - of a resident one, one request after the other, ms",
        "cold",
        _difference(
            "64 tokens, page cache first token p50 ms", "64 tokens, resident first token p50 ms"
        ),
        8,
        8,
    ),
    Target(
        "what the disk adds to a first token ÷ a plain read of the file",
        "cold",
        lambda of: (
            (
                of("64 tokens, disk first token p50 ms")
                - of("64 tokens, resident first token p50 ms")
            )
            / of("disk's own p50 ms")
        ),
        1.3,
        1.3,
    ),
    Target(
        "first token p50 of many cold adapters at one moment, first time ÷ later",
        "herd",
        _ratio("first time: first token p50 ms", "later time: first token p50 ms"),
        1.1,
        1.1,
    ),
    Target(
        "first token of a cold adapter while all slots are hot, ms",
        "starve",
        _figure("cold first token max ms"),
        2500,
        2500,
    ),
    Target(
        "hot throughput meanwhile",
        "starve",
        _figure("hot throughput kept"),
        0.95,
        0.95,
        at_least=True,
    ),
    Target(
        "throughput, all resident, ours ÷ stock",
        "resident",
        _figure("tokens/s"),
        0.99,
        0.99,
        at_least=True,
        against=_over,
    ),
    Target(
        "first token p50, all resident, ours - stock, ms",
        "idle",
        _figure("first token p50 ms"),
        0.5,
        0.5,
        against=_minus,
    ),
    Target(
        "goodput, ours ÷ stock",
        "goodput",
        _figure("goodput/s"),
        1.3,
        1.3,
        at_least=True,
        against=_over,
    ),
    Target(
        "pinned first token p99 under a scan ÷ alone",
        "pinned",
        _ratio("scanned first token p99 ms", "alone first token p99 ms"),
        1.2,
        1.2,
    ),
    Target(
        "pinned first token p99 under a scan ÷ beside the same requests for resident adapters",
        "pinned",
        _ratio("scanned first token p99 ms", "beside first token p99 ms"),
        1.2,
        1.2,
    ),
    Target("memory growth over the cycles", "cycles", _figure("host growth"), 0.02, 0.02),
    Target("device bytes grown", "cycles", _figure("device growth bytes"), 0, 0),
)


def judge(blocks: Blocks, *, on_gpu: bool) -> list[dict[str, str]]:
    """One row for each target whose scenario was run."""
    return [
        _row(target, blocks[target.scenario], on_gpu)
        for target in TARGETS
        if target.scenario in blocks
    ]


def _row(target: Target, sides: dict[str, list[Figures]], on_gpu: bool) -> dict[str, str]:
    ours = _value(target, sides["ours"])
    stock = _value(target, sides["stock"]) if sides["stock"] else math.nan
    reached = ours if target.against is None else target.against(ours, stock)
    limit = target.limit(on_gpu)
    met = reached >= limit if target.at_least else reached <= limit
    return {
        "what": target.what,
        "must be": f"{'≥' if target.at_least else '≤'} {limit:g}",
        "is": f"{reached:.3g}",
        "ours": f"{ours:.4g}",
        "stock": "–" if math.isnan(stock) else f"{stock:.4g}",
        "reached": "yes" if met else "no",
    }


def _value(target: Target, blocks: list[Figures]) -> float:
    def of(figure: str) -> float:
        found = median(blocks, figure)
        return math.nan if found is None else found

    return target.of(of)
