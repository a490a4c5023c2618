"""Output of commands: aligned columns for people, JSON for programs."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaptry.client.models import (
        AdapterFacts,
        DecisionRead,
        InspectionRead,
        ResponseModel,
        VerdictRead,
    )

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]
Json = dict[str, JsonValue]
_NUMBER = re.compile(r"\d[\d.,/]*(%| [A-Za-z]|$)")  # no digest and no time
_NO_NUMBER = frozenset({"", "-", "?", "none"})
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def show_json(content: object) -> None:
    """One or several responses as the server sent them, or any JSON."""
    print(json.dumps(plain(content), indent=2, ensure_ascii=False))


def plain(content: object) -> object:
    """JSON's own types."""
    if isinstance(content, list):
        return [plain(entry) for entry in content]
    dump = getattr(content, "model_dump", None)  # a response: to import its class takes a while
    return content if dump is None else dump(mode="json")


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str = "") -> None:
    """One line per row; columns of numbers are right-aligned. `empty`: a hint for no row."""
    lines = [tuple(headings), *map(tuple, rows)]
    columns = [_align(column) for column in zip(*lines, strict=True)]
    for line in zip(*columns, strict=True):
        print("  ".join(line).rstrip())
    if len(lines) == 1:
        say(empty)


def counted(number: float, noun: str) -> str:
    """`1 version`, `2 versions`."""
    return f"{number:,.0f} {noun}{'s' * (number != 1)}"


def say(hint: str) -> None:
    """To a person, beside the output."""
    if hint:
        print(hint, file=sys.stderr)


def _align(column: Sequence[str]) -> list[str]:
    """`column` has its heading too."""
    width = max(map(len, column))
    is_number = all(cell in _NO_NUMBER or _NUMBER.match(cell) for cell in column[1:])
    return [
        cell.rjust(width) if is_number and _NUMBER.match(cell) else cell.ljust(width)
        for cell in column
    ]


def show_fields(content: "ResponseModel | Mapping[str, JsonValue]") -> None:
    """One `name  value` line for each field that has a value."""
    fields = content if isinstance(content, Mapping) else content.model_dump()  # times, not texts
    shown = {key: text(value) for key, value in fields.items() if value not in (None, [], {})}
    width = max(map(len, shown), default=0)
    for key, value in shown.items():
        print(f"{key.ljust(width)}  {value}")


def text(value: object) -> str:
    """A value of JSON on one line."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(text, value))
        case dict():
            return ", ".join(f"{key}={text(entry)}" for key, entry in value.items())
        case datetime():
            return moment(value)
        case _:
            return str(value)


def moment(at: datetime | None) -> str:
    """A time with its zone, which is always UTC: `2026-11-17 14:05:09Z`."""
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def line_of(decision: "DecisionRead") -> str:
    """`14:05:07Z  upper:3  evicted from GPU slot 3 …`."""
    at = decision.at.astimezone(UTC)
    return f"{at:%H:%M:%S}Z  {decision.reference or '-'}  {decision.sentence}"


def size(value: float | None) -> str:
    """A number of bytes in a short unit, as the console writes it (console/src/lib/format.ts)."""
    amount = float(value or 0)
    steps = 0
    while amount >= 1024 and steps < len(UNITS) - 1:
        amount /= 1024
        steps += 1
    if steps == 0 or amount >= 100:
        return f"{int(amount + 0.5)} {UNITS[steps]}"
    is_half = amount * 20 % 2 == 1  # JavaScript rounds it up, and Python to an even digit
    return f"{amount + 0.01 if is_half else amount:.1f} {UNITS[steps]}"


def shown(path: Path) -> str:
    """A path, relative if it is below the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def show_verdict(verdict: "VerdictRead") -> None:
    """The accepted adapter's facts, or one line for each problem."""
    if verdict.adapter is not None:
        print("accepted")
        _show_facts(verdict.adapter)
        return
    print("refused")
    for problem in verdict.problems:
        times = "" if problem.count == 1 else f" ({problem.count} times)"
        print(f"{problem.code}: {problem.detail}{times}")


def _show_facts(facts: "AdapterFacts") -> None:
    shown: Json = facts.model_dump(mode="json", exclude={"inspection", "size_bytes"})
    report = facts.inspection
    shown["size"] = size(facts.size_bytes)
    for name in ("modules", "tensors", "parameters", "shapes_checked", "engine"):
        shown[name] = getattr(report, name)
    show_fields(shown)
    show_remarks(report)


def show_remarks(report: "InspectionRead | None") -> None:
    """One line for each of an accepted adapter."""
    for remark in report.remarks if report is not None else ():
        print(f"note: {remark.detail} [{remark.code}]")
