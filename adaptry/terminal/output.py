"""How answers look on a terminal: aligned columns for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from adaptry.client.models import ResponseModel

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]
Json = dict[str, JsonValue]
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def show_json(content: object) -> None:
    """An answer or several as the server gave them, or any JSON."""
    print(json.dumps(plain(content), indent=2, ensure_ascii=False))


def plain(content: object) -> object:
    """JSON's own types."""
    if isinstance(content, ResponseModel):
        return content.model_dump(mode="json")
    if isinstance(content, list):
        return [plain(entry) for entry in content]
    return content


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """One line per row; numbers stand at the right of their column."""
    lines = [tuple(headings), *map(tuple, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(headings))]
    for line in lines:
        cells = (_aligned(cell, width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _aligned(cell: str, width: int) -> str:
    is_number = cell[:1].isdigit()
    return cell.rjust(width) if is_number else cell.ljust(width)


def show_fields(content: ResponseModel | Mapping[str, JsonValue]) -> None:
    """One `name  value` line for each field that has a value."""
    fields = content.model_dump(mode="json") if isinstance(content, ResponseModel) else content
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
            return value.isoformat(timespec="seconds")
        case _:
            return str(value)


def size(value: float | None) -> str:
    """A number of bytes in the unit that keeps it short."""
    amount = float(value or 0)
    steps = 0
    while amount >= 1024 and steps < len(UNITS) - 1:
        amount /= 1024
        steps += 1
    return f"{amount:.{min(steps, 1)}f} {UNITS[steps]}"


def shown(path: Path) -> str:
    """A path as short as it can be written here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
