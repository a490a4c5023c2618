"""How `promote` and `rollback` have the engine prepared, and what is shown meanwhile."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TypedDict

import typer

from adaptry.client import Client
from adaptry.terminal.errors import UsageError
from adaptry.terminal.options import connect

NoWarm = Annotated[
    bool, typer.Option("--no-warm", help="Switch at once; the first requests wait for the load.")
]
Probe = Annotated[bool, typer.Option("--probe", help="Generate with it first, or don't switch.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0.001, max=3600, metavar="SECONDS", help="For warming and probing [60]."),
]
EvictOld = Annotated[
    bool,
    typer.Option("--evict-old", help="Put the old version out of memory once it is idle."),
]


class Preparation(TypedDict):
    """As the client takes it; None: as the server does by default."""

    warm: bool | None
    probe: bool | None
    timeout_seconds: float | None
    evict_old: bool | None


def preparation(no_warm: bool, probe: bool, timeout: float | None, evict_old: bool) -> Preparation:
    """What the client is to ask for. Raises UsageError."""
    if no_warm and probe:
        raise UsageError("--probe brings the version into memory: leave --no-warm out")
    return Preparation(
        warm=False if no_warm else None,
        probe=probe or None,
        timeout_seconds=timeout,
        evict_old=evict_old or None,
    )


@contextmanager
def switching(server: str, what: str) -> Iterator[Client]:
    """A client; says on a terminal what it waits for."""
    with connect(server) as client:
        if not sys.stderr.isatty():
            yield client
            return
        from rich.console import Console

        with Console(stderr=True).status(what):
            yield client
