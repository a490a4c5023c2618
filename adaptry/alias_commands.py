"""`adaptry adapter promote | rollback | aliases | unalias`: what a name means."""

import math
from typing import Annotated

import typer

from adaptry.errors import UsageError
from adaptry.options import DEFAULT_SERVER, Alias, AsJson, Name, Reason, Server, Version
from adaptry.output import show_json, show_table, text
from adaptry.preparation import EvictOld, NoWarm, Probe, Timeout, preparation, switching
from adaptry.rest import Json, RestClient, items
from adaptry.rest_paths import adapter_path, alias_path, version_path

Percent = Annotated[
    int | None,
    typer.Option(min=1, max=99, help="Send only so many users there; the rest stay."),
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

    The engine has the version in memory before the alias moves. Fails if it can't be loaded, or if
    somebody else moves the alias meanwhile; then the alias stays where it is.
    """
    version_path(reference)  # is it one?
    name, _, digits = reference.partition(":")
    number = int(digits)
    wishes = preparation(no_warm, probe, timeout, evict_old)
    with switching(server, f"bringing {reference} into memory", timeout) as client:
        before = next((a for a in client.aliases(name) if a.get("alias") == alias), None)
        if percent is None:
            moved = client.move_alias(name, alias, number, _number(before), reason, wishes)
        else:
            share = _with_share(before, number, percent) | wishes
            moved = _split(client, name, alias, share, reason)
    if as_json:
        show_json(moved)
    else:
        came_from = f" (was {target(before)})" if before else ""
        print(f"{name}@{alias} -> {target(moved)}{came_from}")


def rollback(
    name: Name,
    alias: Alias = "default",
    revision: Annotated[int | None, typer.Option(help="To this one of its history.")] = None,
    at: Annotated[str | None, typer.Option(help="To where it was, as 2026-11-17T14:05Z.")] = None,
    no_warm: NoWarm = False,
    probe: Probe = False,
    timeout: Timeout = None,
    evict_old: EvictOld = False,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Bring back an earlier state of an alias, by default the one before.

    The engine has its versions in memory before the alias moves, as for `promote`.
    """
    asked: Json = {"revision": revision, "at": at, "reason": reason}
    asked |= preparation(no_warm, probe, timeout, evict_old)
    body = {key: value for key, value in asked.items() if value is not None}
    with switching(server, f"bringing {name} back into memory", timeout) as client:
        moved = client.call("POST", f"{alias_path(name, alias)}/rollback", body)[1]
    if as_json:
        show_json(moved)
    else:
        print(f"{name}@{alias} -> {target(moved)} ({text(moved.get('reason'))})")


def aliases(
    name: Name,
    alias: Annotated[str | None, typer.Option(help="Show the history of this one.")] = None,
    at: Annotated[str | None, typer.Option(help="Where --alias pointed then.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Where the aliases of an adapter point, or where one of them has pointed."""
    with RestClient(server) as client:
        if at is not None:
            path = alias_path(name, alias or "default")
            found = [client.call("GET", path, query={"at": at})[1]]
        elif alias is not None:
            found = list(client.pages(f"{alias_path(name, alias)}/history"))
        else:
            found = list(client.pages(f"{adapter_path(name)}/aliases"))
    if as_json:
        show_json(found)
    else:
        show_table(("ALIAS", "VERSION", "REVISION", "FROM", "TO", "BY", "REASON"), map(_row, found))


def unalias(
    name: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as canary.")],
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Take an alias away; a rollback brings it back."""
    with RestClient(server) as client:
        query = {"reason": reason} if reason else None
        client.call("DELETE", alias_path(name, alias), query=query)
    print(f"{name}@{alias} is gone")


COMMANDS = (promote, rollback, aliases, unalias)


def target(alias: Json) -> str:
    """The version that an alias points at, or its split in percent."""
    weights = _weights(alias)
    total = sum(weights.values())
    if len(weights) < 2:
        return text(alias.get("version"))
    return ", ".join(f"{number} ({weight / total:.0%})" for number, weight in weights.items())


def _weights(alias: Json | None) -> dict[int, int]:
    found = {}
    for each in items(alias or {}, "weights"):
        number, weight = each.get("version"), each.get("weight")
        if isinstance(number, int) and isinstance(weight, int):
            found[number] = weight
    return found


def _number(alias: Json | None) -> int | None:
    number = (alias or {}).get("version")
    return number if isinstance(number, int) else None


def _with_share(before: Json | None, number: int, percent: int) -> Json:
    """The body that gives one version so many of a hundred users and leaves the others' ratio."""
    others = {n: weight for n, weight in _weights(before).items() if n != number}
    if before is None or not others:
        raise UsageError("--percent needs an alias that points at another version by now")
    weights = {n: weight * (100 - percent) for n, weight in others.items()}
    weights[number] = percent * sum(others.values())
    common = math.gcd(*weights.values())
    return {
        "weights": [{"version": n, "weight": weight // common} for n, weight in weights.items()],
        "expected_version": before.get("version"),
        "expected_revision": before.get("revision"),
    }


def _split(client: RestClient, name: str, alias: str, body: Json, reason: str | None) -> Json:
    if reason is not None:
        body["reason"] = reason
    return client.call("PUT", alias_path(name, alias), body)[1]


def _row(alias: Json) -> tuple[str, ...]:
    return (
        text(alias.get("alias")),
        target(alias),
        text(alias.get("revision")),
        text(alias.get("valid_from"))[:19],
        text(alias.get("valid_to"))[:19],
        text(alias.get("moved_by")),
        text(alias.get("reason")),
    )
