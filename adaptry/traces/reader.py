"""Trace reader: JSON Lines and Parquet that `adaptry trace export` wrote, and CSV of others."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adaptry.terminal.errors import CommandError
from adaptry.traces.parquet import read_parquet
from adaptry.traces.trace import Trace, TracedRequest, finite, trace_of

CSV_COLUMNS = ("time", "adapter", "tokens")


def read_trace(path: Path) -> Trace:
    """By its suffix: `.csv`, `.parquet`, or else lines of JSON. Raises CommandError."""
    try:
        trace = _read(path)
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not text: is it a .parquet or .csv file?") from error
    if not trace.requests:
        raise CommandError(f"{path} has no requests")
    return trace


def _read(path: Path) -> Trace:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _read_csv(path.name, file)
    if path.suffix == ".parquet":
        try:
            return trace_of(read_parquet(path))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CommandError(f"{path.name} is no exported trace: {error}") from error
    with path.open("rb") as file:
        return read_lines(file, path.name)


def read_lines(lines: Iterable[bytes], name: str) -> Trace:
    """A last line that has no end was cut off, and is left out. Raises CommandError."""
    return trace_of(_parse(lines, name))


def _parse(lines: Iterable[bytes], name: str) -> Iterator[dict[str, Any]]:
    probe = Trace()
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            probe.add(content)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            if not line.endswith(b"\n"):
                return
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise CommandError(f"{name}:{number} is no line of a trace: {why}") from error
        probe.requests.clear()
        probe.loads.clear()
        yield content


def _read_csv(name: str, file: Iterable[str]) -> Trace:
    """Columns `time` (seconds, or ISO 8601), `adapter` (empty: the base model), `tokens`; perhaps
    `prompt_tokens`."""
    rows = csv.DictReader(file, skipinitialspace=True)
    try:
        return _read_rows(name, rows)
    except csv.Error as error:
        raise CommandError(f"{name}:{rows.line_num + 1} is no CSV: {error}") from error


def _read_rows(name: str, rows: "csv.DictReader[str]") -> Trace:
    columns = [each.strip() for each in rows.fieldnames or ()]
    if missing := [each for each in CSV_COLUMNS if each not in columns]:
        raise CommandError(
            f"{name} has no column {', '.join(missing)}: its first line has to name "
            f"{', '.join(CSV_COLUMNS)}"
        )
    rows.fieldnames = columns
    trace = Trace()
    for row in rows:
        try:
            trace.requests.append(_csv_request(row))
        except (TypeError, ValueError) as error:
            raise CommandError(f"{name}:{rows.line_num} is no request: {error}") from error
    trace.sort()
    return trace


def _csv_request(row: dict[str, str]) -> TracedRequest:
    tokens, prompt = int(row["tokens"]), int(row.get("prompt_tokens") or 0)
    if tokens < 0 or prompt < 0:
        raise ValueError("a number of tokens below 0")
    if row["adapter"] is None:
        raise ValueError("the row ends before its adapter")
    adapter = sys.intern(row["adapter"].strip()) or None
    return TracedRequest(_seconds(row["time"]), adapter, tokens, prompt)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return finite(seconds)
