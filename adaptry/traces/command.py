"""`adaptry trace …`: the recorded arrivals of a server, as a file."""

import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from adaptry.client import UnexpectedAnswer
from adaptry.client.transport.requests import WRONG_SERVER
from adaptry.terminal.errors import CommandError, UsageError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect, show_help
from adaptry.terminal.output import counted, show_json
from adaptry.traces.hidden_tenants import HiddenTenants
from adaptry.traces.parquet import write_parquet

TRACE_KEY = "ADAPTRY_TRACE_KEY"

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="The recorded arrivals of a server: when, for which adapter, how long.",
)


@app.command()
def export(
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="A new file, or - for stdout.")
    ] = "-",
    format_: Annotated[
        Literal["jsonl", "parquet"] | None,
        typer.Option("--format", help="[default: parquet for FILE.parquet, else jsonl]"),
    ] = None,
    hide_tenants: Annotated[
        bool,
        typer.Option(
            "--hide-tenants",
            help="A hash in place of each tenant's name, by a key that is new each time, or by "
            f"${TRACE_KEY}.",
        ),
    ] = False,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Write the recorded trace, the oldest line first. Needs a key with the scope operate."""
    path = None if output == "-" else Path(output)
    kind = format_ or ("parquet" if path is not None and path.suffix == ".parquet" else "jsonl")
    if path is None and kind == "parquet":
        raise UsageError("--format parquet needs a file: -o FILE")
    if path is not None and path.exists():
        raise CommandError(f"{output} already exists: choose another name")
    with connect(server) as client, client.cache.trace() as chunks:
        lines = _hidden(_lines(chunks)) if hide_tenants else _lines(chunks)
        if path is None:
            _write_lines(sys.stdout.buffer, lines)
            return
        count = _write(path, kind, lines)
    if as_json:
        show_json({"file": output, "format": kind, "lines": count})
    else:
        print(f"{output}  {counted(count, 'line')}")


def _write(path: Path, kind: str, lines: Iterator[dict[str, Any]]) -> int:
    """Through a temporary file, which replaces it once complete."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if kind == "parquet":
            count = write_parquet(partial, lines)
        else:
            with partial.open("wb") as file:
                count = _write_lines(file, lines)
        partial.replace(path)
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def _write_lines(file: Any, lines: Iterable[dict[str, Any]]) -> int:
    count = 0
    for line in lines:
        file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
        count += 1
    file.flush()
    return count


def _hidden(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    key = os.environ.get(TRACE_KEY) or secrets.token_hex(32)
    return map(HiddenTenants(key.encode()).hide, lines)


def _lines(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from map(_parse, whole)


def _parse(line: bytes) -> dict[str, Any]:
    """Raises UnexpectedAnswer."""
    try:
        content = json.loads(line)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UnexpectedAnswer(WRONG_SERVER)
    return content
