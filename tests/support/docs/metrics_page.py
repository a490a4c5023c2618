"""The list of all series in docs/metrics.md."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics_core import Metric

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

OURS = re.compile(r"(?:(?<![:\w])adaptry_\w+\b(?!:)|vllm:lora_adapter_loaded\b)")
RECORDED = re.compile(r"\b\w+:adaptry_\w+:\w+")  # level:metric:operation, by a rule of ours
TYPES = ("counter", "gauge", "histogram", "info")
_OF_A_HISTOGRAM = ("_bucket", "_count", "_sum")


@dataclass(frozen=True)
class Series:
    """One row. `labels`: the values of each; empty where the set is not closed."""

    name: str
    type: str
    labels: dict[str, frozenset[str]]
    unit: str
    meaning: str


def listed() -> list[Series]:
    """Every row of the page, in its order."""
    rows = [line.strip("| ").split("|") for line in PAGE.splitlines() if OURS.match(line[3:])]
    return [_series([cell.strip() for cell in row]) for row in rows]


def _series(cells: list[str]) -> Series:
    name, kind, labels, unit, meaning = cells
    return Series(name.strip("`"), kind, _labels(labels), unit, meaning)


def _labels(cell: str) -> dict[str, frozenset[str]]:
    found = {}
    for label in filter(None, cell.split("; ")):
        name, _, values = label.partition(" = ")
        found[name.strip("`")] = frozenset(re.findall(r"`([^`]+)`", values))
    return found


def names_in(text: str) -> set[str]:
    """The series that a query, a rule or a page speaks of, by the names of the list."""
    histograms = {series.name for series in listed() if series.type == "histogram"}
    return {_base(name, histograms) for name in OURS.findall(text)}


def _base(name: str, histograms: set[str]) -> str:
    for suffix in _OF_A_HISTOGRAM:
        if name.removesuffix(suffix) in histograms:
            return name.removesuffix(suffix)
    return name


def exported(families: Iterable[Metric]) -> dict[str, tuple[str, dict[str, set[str]]]]:
    """Ours of what a server exports: type, and the values of each label but `le`."""
    found = {}
    for family in families:
        if not OURS.match(family.name) or not family.samples:
            continue
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        values: dict[str, set[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label != "le":
                    values.setdefault(label, set()).add(value)
        found[family.name + suffix] = (family.type, values)
    return found
