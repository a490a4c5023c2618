"""`adaptry undo`: takes back the last move of an alias, and shows it."""

from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.commands.alias import target
from adaptry.terminal.completion import adapter_names
from adaptry.terminal.errors import CommandError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Reason, Server
from adaptry.terminal.output import show_json
from adaptry.terminal.promotion import NoWarm, preparation_of, switch_client

if TYPE_CHECKING:
    from adaptry.client import Client
    from adaptry.client.models import AliasRead, EventKind

MOVES: "tuple[EventKind, ...]" = ("alias.moved", "alias.split", "alias.deleted")


def undo(
    alias: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME[@ALIAS]",
            help="Whose last move; by default that of the alias that moved last.",
            autocompletion=adapter_names,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")] = False,
    no_warm: NoWarm = False,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Move an alias back to where it was before its last move. A second undo moves it forth again.

    The engine loads the version before the alias moves, as for `promote`.
    """
    with switch_client(server, "loading the version into memory") as client:
        name, moved = _parse_alias(alias) if alias else _last_moved(client)
        now, before = _states(client, name, moved)
        step = f"{name}@{moved}: {target(now) if now else 'deleted'} -> {target(before)}"
        if not dry_run:
            done = client.aliases.roll_back(
                name,
                moved,
                revision=before.revision,
                expected_version=now.version if now else None,
                reason=reason or "undo",
                **preparation_of(no_warm, False, None, False),
            )
    if as_json:
        show_json(before if dry_run else done)
    else:
        print(f"{step} (not done: --dry-run)" if dry_run else step)


def _parse_alias(text: str) -> tuple[str, str]:
    name, _, alias = text.partition("@")
    return name, alias or "default"


def _last_moved(client: "Client") -> tuple[str, str]:
    for event in client.events.list(kinds=MOVES, newest_first=True):
        was_elsewhere = event.from_version is not None or event.kind == "alias.deleted"
        if was_elsewhere and event.adapter is not None and event.alias is not None:
            return event.adapter, event.alias
    raise CommandError(
        "no alias has moved yet, so there is nothing to undo: undo takes back what "
        "`adaptry adapter promote NAME:VERSION` does"
    )


def _states(client: "Client", name: str, alias: str) -> "tuple[AliasRead | None, AliasRead]":
    """Where it points now, and the newest state before that differs."""
    history = client.aliases.history(name, alias)
    newest = next(iter(history))
    now = newest if newest.valid_to is None else None
    for state in client.aliases.history(name, alias):
        if now is None or state.weights != now.weights:
            return now, state
    raise CommandError(
        f"{name}@{alias} has never been anywhere else [nothing_to_roll_back]: "
        f"`adaptry adapter aliases {name} --alias {alias}` shows where it was"
    )
