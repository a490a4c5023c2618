"""How `promote` and `rollback` have the engine prepared, and what is shown meanwhile."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from adaptry.errors import UsageError
from adaptry.rest import Json, RestClient

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

_SMALLEST_PATIENCE_SECONDS = 120.0
_SWITCH_SECONDS = 30.0


def preparation(no_warm: bool, probe: bool, timeout: float | None, evict_old: bool) -> Json:
    """The fields of a request's body that say so. Raises UsageError."""
    if no_warm and probe:
        raise UsageError("--probe brings the version into memory: leave --no-warm out")
    wishes: Json = {"probe": probe or None, "evict_old": evict_old or None}
    wishes |= {"warm": False if no_warm else None, "timeout_seconds": timeout}
    return {key: value for key, value in wishes.items() if value is not None}


@contextmanager
def switching(server: str, what: str, timeout: float | None) -> Iterator[RestClient]:
    """A client that waits for as long as the server may take; says what for on a terminal."""
    patience = max(_SMALLEST_PATIENCE_SECONDS, (timeout or 0) + _SWITCH_SECONDS)
    with RestClient(server, timeout_seconds=patience) as client:
        if not sys.stderr.isatty():
            yield client
            return
        from rich.console import Console

        with Console(stderr=True).status(what):
            yield client
