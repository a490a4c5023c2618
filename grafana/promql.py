"""PromQL for the dashboards: every selector applies the dashboard's instance variable."""

from dataclasses import dataclass
from typing import TypeAlias

HERE = 'instance=~"$instance"'
ADAPTER = 'adapter="$adapter"'
RATE = "$__rate_interval"
RANGE = "$__range"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and the legend of its lines."""

    expression: str
    legend: str = ""
    exemplars: bool = False


Queries: TypeAlias = Query | tuple[Query, ...]


def series(name: str, *matchers: str) -> str:
    return f"{name}{{{','.join((HERE, *matchers))}}}"


def total(name: str, *matchers: str, by: str = "") -> str:
    """Sum of a series over all labels that `by` does not name."""
    return f"sum{_by(by)} ({series(name, *matchers)})"


def highest(name: str, *matchers: str, by: str = "") -> str:
    return f"max{_by(by)} ({series(name, *matchers)})"


def lowest(name: str, *matchers: str, by: str = "") -> str:
    return f"min{_by(by)} ({series(name, *matchers)})"


def rate(name: str, *matchers: str, by: str = "") -> str:
    """Events per second, summed over all labels that `by` does not name."""
    return f"sum{_by(by)} (rate({series(name, *matchers)}[{RATE}]))"


def increase(name: str, *matchers: str, by: str = "", within: str = RATE) -> str:
    """Number of events in the preceding time."""
    return f"sum{_by(by)} (increase({series(name, *matchers)}[{within}]))"


def share(part: str, whole: str) -> str:
    """No value, rather than 0 / 0, if nothing happened."""
    return f"{part} / ({whole} > 0)"


def quantile(fraction: float, histogram: str, *matchers: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({fraction}, {rate(f'{histogram}_bucket', *matchers, by=labels)})"


def buckets(histogram: str, *matchers: str) -> str:
    """Observations by upper bound, as a heatmap needs them."""
    return increase(f"{histogram}_bucket", *matchers, by="le")


def or_zero(expression: str, label: str = "") -> str:
    """For series that exist only once something has gone wrong; until then `label` is `none`."""
    nothing = f'label_replace(vector(0), "{label}", "none", "", "")' if label else "vector(0)"
    return f"{expression} or {nothing}"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
