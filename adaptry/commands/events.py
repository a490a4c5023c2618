"""`adaptry events …`: the event log: the last ones, new ones, export, its hash chain."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, cast

import typer

from adaptry.terminal.completion import adapter_names
from adaptry.terminal.errors import CommandError, UsageError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect, show_help
from adaptry.terminal.output import counted, moment, say, show_json, text
from registry.events.hash_chain import BrokenChain, ChainEnd, verify_chain

if TYPE_CHECKING:
    from adaptry.client.models import EventKind, EventRead

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="The log of all changes: who, when, from where, what.",
)

_NONE = "no events yet: the first change, such as `adaptry adapter add NAME FOLDER`, makes one"
_WAITING = (
    "events are printed as they happen, until Ctrl-C; `adaptry events list` shows the last ones"
)

Moment = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])
]


@app.command()
def export(
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="A new file, or - for stdout.")
    ] = "-",
    since: Moment = None,
    until: Moment = None,
    adapter: Annotated[str | None, typer.Option(help="Only of this adapter.")] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Continue after the last line of FILE.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Write events as lines of JSON, the oldest first. Times without a zone are local."""
    if append and output == "-":
        raise UsageError("--append needs a file: -o FILE")
    with connect(server) as client, _open_output(output, append=append) as (file, end):
        export_ = client.events.export(
            adapter=adapter,
            since=_with_zone(since),
            until=_with_zone(until),
            after=end.after,
            chain=end.chain,
        )
        with export_ as chunks:
            for chunk in chunks:
                file.write(chunk)
    if output == "-":  # the export is JSON itself
        return
    written = _check_chain(Path(output))
    if as_json:
        _show_end(written)
    else:
        count = counted(written.events, "event")
        print(f"{output}  {count}, the last is {written.after}: {written.chain}")


Kind = Annotated[list[str] | None, typer.Option("--kind", help="Such as alias.moved; repeatable.")]
Of = Annotated[str | None, typer.Option(help="Only of this adapter.", autocompletion=adapter_names)]


@app.command("list")
def list_(
    adapter: Of = None,
    kind: Kind = None,
    actor: Annotated[str | None, typer.Option(help="Only by this key.")] = None,
    since: Moment = None,
    until: Moment = None,
    limit: Annotated[int, typer.Option(min=1, help="The last so many.")] = 20,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """List the last events, the newest at the end. Times without a zone are local."""
    with connect(server) as client:
        found = client.events.list(
            adapter=adapter,
            kinds=cast("list[EventKind]", kind or ()),  # the server checks them
            actor=actor,
            since=_with_zone(since),
            until=_with_zone(until),
            newest_first=True,
            page_size=min(limit, 100),
        )
        events = list(islice(found, limit))[::-1]
    if as_json:
        show_json(events)
        return
    for event in events:
        print(line_of(event))
    if not events:
        is_filtered = any((adapter, kind, actor, since, until))
        say("no event meets these conditions" if is_filtered else _NONE)


@app.command()
def tail(
    adapter: Of = None,
    kind: Kind = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Begin after this event; 0: with the first.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Print events as they happen; Ctrl-C ends it. --json: one per line."""
    kinds = cast("list[EventKind]", kind or ())
    with connect(server) as client, suppress(KeyboardInterrupt):  # the way to end it
        if not as_json:
            found = client.events.list(kinds=kinds, newest_first=True, page_size=1)
            newest = next(iter(found), None)  # unknown kinds are refused here
            say(_WAITING if newest or kinds else f"{_NONE}; {_WAITING}")
        for event in client.events.stream(adapter=adapter, kinds=kinds, after=after):
            print(event.model_dump_json() if as_json else line_of(event), flush=True)


def line_of(event: "EventRead") -> str:
    """`2026-11-17 14:05:09Z  17  alias.moved  upper@default: 1 -> 2  by ann: better`."""
    about = event.adapter or ""
    if event.alias:
        about += f"@{event.alias}"
    versions = [text(each) for each in (event.from_version, event.to_version)]
    if event.alias and versions != ["-", "-"]:
        about += f": {' -> '.join(versions)}"
    elif event.to_version is not None:
        about += f":{event.to_version}"
    reason = f": {event.reason}" if event.reason else ""
    parts = (moment(event.at), str(event.id), event.kind, about, f"by {event.actor}{reason}")
    return "  ".join(filter(None, parts))


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `events export` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Check that each line of an export still follows from the line before it."""
    end = _check_chain(file)
    if as_json:
        _show_end(end)
    else:
        print(f"intact: {counted(end.events, 'event')}, the last is {end.after}: {end.chain}")


def _show_end(end: ChainEnd) -> None:
    show_json({"events": end.events, "last": end.after, "hash": end.chain})


def _with_zone(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone().isoformat()


@contextmanager
def _open_output(output: str, *, append: bool) -> Iterator[tuple[IO[bytes], ChainEnd]]:
    """Write to a temporary file, which replaces or extends the output once complete."""
    if output == "-":
        yield sys.stdout.buffer, ChainEnd()
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    if path.exists() and not append:
        raise CommandError(f"{output} already exists: choose another name, or use --append")
    end = _check_chain(path) if path.exists() else ChainEnd()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file, end
        _move_or_append(partial, path)
    except OSError as error:
        raise CommandError(f"{output} can't be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _move_or_append(partial: Path, path: Path) -> None:
    """Append to the existing file, if there is one."""
    if not path.exists():
        partial.rename(path)
        return
    with partial.open("rb") as new, path.open("ab") as file:
        file.writelines(new)


def _check_chain(path: Path) -> ChainEnd:
    try:
        with path.open("rb") as file:
            return verify_chain(file)
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}") from error
    except BrokenChain as error:
        raise CommandError(f"{path}: {error}") from error
