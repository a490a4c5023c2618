"""What a bench found: hit ratio, first tokens by outcome, loads, throughput."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from adaptry.bench.traffic import Answer
from adaptry.terminal.output import show_table

OUTCOMES = ("gpu_hit", "host_hit", "miss")
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Report:
    """Of all answers within `seconds`."""

    answers: Sequence[Answer]
    seconds: float

    @property
    def good(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.error]

    @property
    def failed(self) -> int:
        return len(self.answers) - len(self.good)

    @property
    def outcomes(self) -> Counter[str]:
        """By where the adapter was found."""
        return Counter(answer.outcome or "unknown" for answer in self.good)

    @property
    def hit_ratio(self) -> float | None:
        """The share that found their adapter in a GPU slot; None if nothing went well."""
        return self.outcomes["gpu_hit"] / len(self.good) if self.good else None

    @property
    def errors(self) -> Counter[str]:
        return Counter(answer.error for answer in self.answers if answer.error)

    @property
    def requests_per_second(self) -> float:
        return len(self.good) / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return sum(answer.tokens for answer in self.good) / self.seconds

    def first_token_seconds(self, outcome: str) -> dict[str, float]:
        own = [answer for answer in self.good if answer.outcome == outcome]
        return quantiles([a.first_token_seconds for a in own if a.first_token_seconds is not None])

    def load_seconds(self) -> dict[str, float]:
        """Of those that had to wait for a load."""
        return quantiles([answer.load_seconds for answer in self.good if answer.load_seconds > 0])

    def as_json(self) -> dict[str, object]:
        return {
            "requests": len(self.answers),
            "failed": self.failed,
            "errors": dict(self.errors),
            "seconds": self.seconds,
            "requests_per_second": self.requests_per_second,
            "tokens_per_second": self.tokens_per_second,
            "adapters": len({answer.model for answer in self.answers}),
            "outcomes": dict(self.outcomes),
            "hit_ratio": self.hit_ratio,
            "first_token_seconds": {name: self.first_token_seconds(name) for name in OUTCOMES},
            "load_seconds": self.load_seconds(),
        }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """By nearest rank; empty without values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    ranks = {name: max(0, math.ceil(share * len(ordered)) - 1) for name, share in SHARES.items()}
    return {"count": len(ordered), **{name: ordered[rank] for name, rank in ranks.items()}}


def show_report(report: Report) -> None:
    adapters = len({answer.model for answer in report.answers})
    print(f"{len(report.answers)} requests to {adapters} adapters in {report.seconds:.1f} s")
    tokens = f"{report.tokens_per_second:.0f} tokens/s"
    print(f"{report.requests_per_second:.1f} requests/s, {tokens}")
    print(f"hit ratio {'-' if report.hit_ratio is None else f'{report.hit_ratio:.1%}'}")
    print()
    rows = [_row(name, report.first_token_seconds(name)) for name in OUTCOMES]
    rows.append(_row("(loads)", report.load_seconds()))
    show_table(("FIRST TOKEN", "COUNT", "P50 MS", "P95 MS", "P99 MS"), rows)
    for error, count in report.errors.items():
        print(f"failed: {count} with {error}")


def _row(name: str, summary: dict[str, float]) -> tuple[str, ...]:
    if not summary:
        return (name, "0", "-", "-", "-")
    return (name, str(summary["count"]), *(f"{summary[share] * 1000:.1f}" for share in SHARES))
