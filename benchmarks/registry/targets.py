"""Targets of the registry with 100,000 versions, and the table of results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Figures = dict[str, float]


@dataclass(frozen=True)
class Figure:
    """One row. Without a limit it is informative only."""

    what: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)

    @property
    def limit(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:,g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"


FIGURES = (
    Figure("resolve, /s", at_least=20_000),
    Figure("resolve, p99 ms", at_most=0.2),
    Figure("resolve while aliases move, /s", at_least=20_000),
    Figure("resolve while aliases move, p99 ms", at_most=0.2),
    Figure("first resolve, ms"),
    Figure("resolve over HTTP, /s", at_least=1500),
    Figure("resolve over HTTP, nothing kept yet, /s"),
    Figure("registration, 1 at a time, /s"),
    Figure("registration, 16 at a time, /s", at_least=300),
    Figure("one fsync, ms"),
    Figure("list page, median kind, ms", at_most=5),
    Figure("list page, slowest of up to two conditions, ms", at_most=5),
    Figure("list page, slowest of more conditions, ms", at_most=5),
    Figure("list page, two words that are never together, ms", at_most=5),
    Figure("start, s", at_most=2),
    Figure("hashing, share of the library's speed", at_least=0.8),
    Figure("hashing, MiB/s"),
)


def judge(measured: Mapping[str, Figures]) -> list[dict[str, str]]:
    """One row for each figure that was measured on any of the databases (by their names)."""
    return [
        _row(figure, {name: figures.get(figure.what) for name, figures in measured.items()})
        for figure in FIGURES
        if any(figure.what in figures for figures in measured.values())
    ]


def _row(figure: Figure, values: Mapping[str, float | None]) -> dict[str, str]:
    known = [value for value in values.values() if value is not None]
    met = "yes" if all(map(figure.met, known)) else "NO"
    return {
        "what": figure.what,
        "must be": figure.limit,
        **{name: "–" if value is None else _format(value) for name, value in values.items()},
        "met": met if figure.limit else "",
    }


def _format(value: float) -> str:
    """Three significant digits."""
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def medians(rounds: Sequence[Figures]) -> Figures:
    """Of several rounds that measured the same."""
    return {what: sorted(r[what] for r in rounds)[len(rounds) // 2] for what in rounds[0]}
