"""`adaptry why` and `adaptry cache why | decisions | top`: the cache's decisions and reasons."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.terminal.completion import adapter_names
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Reference, Server, connect
from adaptry.terminal.output import line_of, say, show_json

if TYPE_CHECKING:
    from adaptry.client.models import DecisionRead

SHOWN_DECISIONS = 20

AdapterOption = Annotated[
    str | None, typer.Option(help="Only of this adapter.", autocompletion=adapter_names)
]


def why(
    reference: Reference,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="How many decisions.")
    ] = SHOWN_DECISIONS,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Show where an adapter is, what last happened to it, and what would help."""
    with connect(server) as client:
        explained = client.cache.why(reference)
    if as_json:
        show_json(explained)
        return
    print(explained.summary)
    if explained.decisions:
        print()
    for decision in explained.decisions[:limit]:
        print(line_of(decision))


def decisions(
    adapter: AdapterOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = SHOWN_DECISIONS,
    follow: Annotated[bool, typer.Option("--follow", help="Keep printing new ones.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Show the last decisions of the cache, the oldest first. --follow --json: one per line."""
    with connect(server) as client:
        found = client.cache.decisions(adapter=adapter, limit=limit)
        if adapter is not None and not found.items:
            client.adapters.get(adapter)  # raises, if there is none of this name
        if as_json and not follow:
            show_json(found.items)
            return
        for decision in found.items:
            _print(decision, as_json)
        if not (found.items or as_json):
            say("no decisions yet: a request for an adapter makes the first ones")
        if follow:
            with suppress(KeyboardInterrupt):  # the way to end it
                for decision in client.cache.stream(adapter=adapter, after=found.newest_id):
                    _print(decision, as_json)


def top(
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between samples.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one sample and exit.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Watch slots, hit ratio, loads and evictions; Ctrl-C ends it.

    With --json, one object per sample and line.
    """
    from adaptry.top.screen import run_top

    with connect(server) as client:
        run_top(client, interval, once=once, as_json=as_json)


COMMANDS = (why, decisions, top)


def _print(decision: "DecisionRead", as_json: bool) -> None:
    print(decision.model_dump_json() if as_json else line_of(decision), flush=True)
