"""`adaptry adapter promote | rollback | aliases | unalias`, and `name | names | unname`."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.client.transport.requests import parse_version
from adaptry.terminal.completion import aliases_of, references
from adaptry.terminal.errors import UsageError
from adaptry.terminal.options import (
    DEFAULT_SERVER,
    Alias,
    AsJson,
    Name,
    Reason,
    Server,
    Version,
    connect,
)
from adaptry.terminal.output import moment, show_json, show_table, text
from adaptry.terminal.promotion import (
    EvictOld,
    NoWarm,
    Probe,
    Timeout,
    preparation_of,
    switch_client,
)

if TYPE_CHECKING:
    from adaptry.client.models import AliasRead, WeightRead

Percent = Annotated[
    int | None,
    typer.Option(min=1, max=99, help="Send only this share of users there; the rest stay."),
]
ServedName = Annotated[
    str, typer.Argument(metavar="SERVED_NAME", help="Any printable text, at most 256 characters.")
]


def promote(
    reference: Version,
    alias: Alias = "default",
    percent: Percent = None,
    no_warm: NoWarm = False,
    probe: Probe = False,
    timeout: Timeout = None,
    evict_old: EvictOld = False,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Point an alias at a version, or a share of its users.

    The engine loads the version before the alias moves. If loading fails, or another client moves
    the alias meanwhile, the alias stays where it is.
    """
    parse_version(reference)  # raises InvalidReference
    name, _, digits = reference.partition(":")
    number = int(digits)
    options = preparation_of(no_warm, probe, timeout, evict_old)
    with switch_client(server, f"loading {reference} into memory") as client:
        before = next((a for a in client.aliases.list(name) if a.alias == alias), None)
        moved = client.aliases.set(
            name,
            alias,
            version=number if percent is None else None,
            weights=None if percent is None else _with_share(before, number, percent),
            expected_version=before.version if before else None,
            expected_revision=before.revision if before and percent is not None else None,
            reason=reason,
            **options,
        )
    if as_json:
        show_json(moved)
    else:
        came_from = f" (was {target(before)})" if before else ""
        print(f"{name}@{alias} -> {target(moved)}{came_from}")


def rollback(
    name: Name,
    alias: Alias = "default",
    revision: Annotated[int | None, typer.Option(help="To this revision of its history.")] = None,
    at: Annotated[
        str | None, typer.Option(help="To its state at a time, such as 2026-11-17T14:05Z.")
    ] = None,
    no_warm: NoWarm = False,
    probe: Probe = False,
    timeout: Timeout = None,
    evict_old: EvictOld = False,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Restore an earlier state of an alias, by default the previous one.

    The engine loads its versions before the alias moves, as for `promote`.
    """
    options = preparation_of(no_warm, probe, timeout, evict_old)
    with switch_client(server, f"loading {name} into memory") as client:
        moved = client.aliases.roll_back(
            name, alias, revision=revision, at=at, reason=reason, **options
        )
    if as_json:
        show_json(moved)
    else:
        print(f"{name}@{alias} -> {target(moved)} ({text(moved.reason)})")


def aliases(
    name: Name,
    alias: Annotated[str | None, typer.Option(help="Show the history of this alias.")] = None,
    at: Annotated[str | None, typer.Option(help="Where --alias pointed at this time.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Show where the aliases of an adapter point, or the history of one."""
    with connect(server) as client:
        if at is not None:
            found = [client.aliases.get(name, alias or "default", at=at)]
        elif alias is not None:
            found = list(client.aliases.history(name, alias))
        else:
            found = list(client.aliases.list(name))
    if as_json:
        show_json(found)
    else:
        headings = ("ALIAS", "VERSION", "REVISION", "FROM", "TO", "BY", "REASON")
        none = f"{name} has no alias: `adaptry adapter promote {name}:VERSION` sets its default"
        show_table(headings, map(_row, found), empty=none)


def unalias(
    name: Name,
    alias: Annotated[
        str, typer.Argument(metavar="ALIAS", help="Such as canary.", autocompletion=aliases_of)
    ],
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Delete an alias; a rollback restores it."""
    with connect(server) as client:
        client.aliases.delete(name, alias, reason=reason)
    if as_json:
        show_json({"adapter": name, "alias": alias, "deleted": True})
    else:
        print(f"{name}@{alias} is deleted")


def name(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE", help="name, name@alias or name:3.", autocompletion=references
        ),
    ],
    served_name: ServedName,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Let clients write any text, such as Org/Adapter-7B, for an adapter, an alias or a version."""
    adapter, _, alias = reference.partition("@")
    number = None
    if ":" in reference:
        parse_version(reference)  # raises InvalidReference
        adapter, _, digits = reference.partition(":")
        number = int(digits)
    with connect(server) as client:
        named = client.names.set(adapter, served_name, alias=alias or None, version=number)
    if as_json:
        show_json(named)
    else:
        print(f"{named.name} -> {named.reference}")


def names(name: Name, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Show the served names of an adapter."""
    with connect(server) as client:
        found = list(client.names.list(name))
    if as_json:
        show_json(found)
    else:
        rows = ((n.name, n.reference, moment(n.created_at), n.created_by) for n in found)
        none = f"{name} has no served name: `adaptry adapter name {name} TEXT` gives it one"
        show_table(("NAME", "MEANS", "SINCE", "BY"), rows, empty=none)


def unname(
    name: Name, served_name: ServedName, server: Server = DEFAULT_SERVER, as_json: AsJson = False
) -> None:
    """Remove a served name: requests that write it get 404 from then on."""
    with connect(server) as client:
        client.names.remove(name, served_name)
    if as_json:
        show_json({"adapter": name, "name": served_name, "removed": True})
    else:
        print(f"{served_name} is removed")


COMMANDS = (promote, rollback, aliases, unalias, name, names, unname)


def target(alias: "AliasRead") -> str:
    """The version that an alias points at, or its split in percent."""
    return str(alias.version) if len(alias.weights) < 2 else split(alias.weights)


def split(weights: "Sequence[WeightRead]") -> str:
    """The share of each version, such as `1 (90%), 2 (10%)`."""
    total = sum(each.weight for each in weights)
    return ", ".join(f"{each.version} ({each.weight / total:.0%})" for each in weights)


def _with_share(before: "AliasRead | None", number: int, percent: int) -> dict[int, int]:
    """Weights that give one version a share of users and keep the ratio of the others."""
    before_weights = before.weights if before else []
    others = {each.version: each.weight for each in before_weights if each.version != number}
    if not others:
        raise UsageError("--percent needs an alias that points at another version now")
    weights = {n: weight * (100 - percent) for n, weight in others.items()}
    weights[number] = percent * sum(others.values())
    common = math.gcd(*weights.values())
    return {n: weight // common for n, weight in weights.items()}


def _row(alias: "AliasRead") -> tuple[str, ...]:
    return (
        alias.alias,
        target(alias),
        str(alias.revision),
        moment(alias.valid_from),
        moment(alias.valid_to),
        alias.moved_by,
        text(alias.reason),
    )
