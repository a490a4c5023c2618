"""Report of `adaptry bench`: hit ratio, first tokens by outcome, loads, throughput."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from adaptry.bench.traffic import Result
from adaptry.terminal.output import counted, show_table

OUTCOMES = ("gpu_hit", "host_hit", "miss")
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all requests, sent within `seconds`."""

    results: Sequence[Result]
    seconds: float

    @property
    def good(self) -> list[Result]:
        return [result for result in self.results if not result.error]

    @property
    def failed(self) -> int:
        return len(self.results) - len(self.good)

    @property
    def outcomes(self) -> Counter[str]:
        """Counts by where the adapter was found."""
        return Counter(result.outcome or "unknown" for result in self.good)

    @property
    def hit_ratio(self) -> float | None:
        """The share that found their adapter in a GPU slot; None if no request succeeded."""
        return self.outcomes["gpu_hit"] / len(self.good) if self.good else None

    @property
    def errors(self) -> Counter[str]:
        return Counter(result.error for result in self.results if result.error)

    @property
    def requests_per_second(self) -> float:
        return len(self.good) / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return sum(result.tokens for result in self.good) / self.seconds

    def first_token_seconds(self, outcome: str) -> dict[str, float]:
        own = [result for result in self.good if result.outcome == outcome]
        return quantiles([a.first_token_seconds for a in own if a.first_token_seconds is not None])

    def load_seconds(self) -> dict[str, float]:
        """Load times of requests that waited for a load."""
        return quantiles([result.load_seconds for result in self.good if result.load_seconds > 0])

    def as_json(self) -> dict[str, object]:
        return {
            "requests": len(self.results),
            "failed": self.failed,
            "errors": dict(self.errors),
            "seconds": self.seconds,
            "requests_per_second": self.requests_per_second,
            "tokens_per_second": self.tokens_per_second,
            "adapters": len({result.model for result in self.results}),
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
    requests = counted(len(report.results), "request")
    adapters = counted(len({result.model for result in report.results}), "adapter")
    print(f"{requests} to {adapters} in {report.seconds:.1f} s")
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
