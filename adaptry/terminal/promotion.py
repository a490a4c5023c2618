"""Promotion options of `promote` and `rollback`, and the status line meanwhile."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from adaptry.terminal.errors import UsageError
from adaptry.terminal.options import connect

if TYPE_CHECKING:
    from adaptry.client import Client

NoWarm = Annotated[
    bool,
    typer.Option("--no-warm", help="Switch immediately; the first requests wait for the load."),
]
Probe = Annotated[
    bool, typer.Option("--probe", help="Generate with it first; don't switch if that fails.")
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0.001, max=3600, metavar="SECONDS", help="For warming and probing together [60]."
    ),
]
EvictOld = Annotated[
    bool,
    typer.Option("--evict-old", help="Evict the old version once it is idle."),
]


class Preparation(TypedDict):
    """The client's keyword arguments; None: the server's default."""

    warm: bool | None
    probe: bool | None
    timeout_seconds: float | None
    evict_old: bool | None


def preparation_of(
    no_warm: bool, probe: bool, timeout: float | None, evict_old: bool
) -> Preparation:
    """The preparation that the options ask for. Raises UsageError."""
    if no_warm and probe:
        raise UsageError("--probe loads the version into memory: leave --no-warm out")
    return Preparation(
        warm=False if no_warm else None,
        probe=probe or None,
        timeout_seconds=timeout,
        evict_old=evict_old or None,
    )


@contextmanager
def switch_client(server: str, status: str) -> "Iterator[Client]":
    """A client; a terminal shows the status meanwhile."""
    with connect(server) as client:
        if not sys.stderr.isatty():
            yield client
            return
        from rich.console import Console

        with Console(stderr=True).status(status):
            yield client
