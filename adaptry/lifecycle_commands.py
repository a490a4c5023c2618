"""`adaptry adapter deprecate | retire | restore | quarantine | purge | gc`: the end of versions."""

from typing import Annotated

import typer

from adaptry.options import DEFAULT_SERVER, AsJson, Reason, Server, Version
from adaptry.output import show_json, show_table, size, text
from adaptry.rest import Json, RestClient, items
from adaptry.rest_paths import API, version_path


def deprecate(
    version: Version,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Go on serving a version, with a warning in each answer."""
    _step(server, version, "deprecate", {"reason": reason}, as_json)


def retire(
    version: Version,
    move_aliases_to: Annotated[
        int | None, typer.Option(help="The version that its aliases get.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even if aliases point at it.")] = False,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Refuse new requests for a version; those under way end as they began."""
    body: Json = {"reason": reason, "force": force, "move_aliases_to": move_aliases_to}
    _step(server, version, "retire", body, as_json)


def restore(
    version: Version,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Make a version ready again that was deprecated, retired or quarantined."""
    _step(server, version, "restore", {"reason": reason}, as_json)


def quarantine(
    version: Version,
    reason: Annotated[str, typer.Option(help="What is wrong with it.")],
    code: Annotated[str, typer.Option(help="The same for programs.")] = "operator",
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Serve a version no more, wherever aliases point, until it is restored."""
    _step(server, version, "quarantine", {"reason": reason, "code": code}, as_json)


def purge(
    version: Version,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Delete the files of a retired, quarantined or rejected version."""
    path = f"{version_path(version)}/purge"
    with RestClient(server) as client:
        done = client.call("POST", path, _given({"reason": reason}))[1]
    if as_json:
        show_json(done)
    else:
        print(f"{version} is purged, {size(done.get('freed_bytes'))} came free")


def gc(
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Delete, or only say what would go.")
    ] = False,
    keep_last: Annotated[int, typer.Option(min=0, help="Newest versions of each adapter.")] = 5,
    rollback_days: Annotated[
        float, typer.Option(min=0, help="Keep what an alias pointed at within so many days.")
    ] = 30,
    state: Annotated[
        list[str] | None, typer.Option(help="Versions in this state; repeatable.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="Of this adapter only.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Delete the files of old versions that no alias points at; by default only say which."""
    asked: Json = {
        "dry_run": not apply,
        "keep_last": keep_last,
        "rollback_window_days": rollback_days,
        "states": list(state) if state else None,
        "adapter": adapter,
    }
    with RestClient(server) as client:
        done = client.call("POST", f"{API}/gc", _given(asked))[1]
    if as_json:
        show_json(done)
    else:
        _show_collection(done)


COMMANDS = (deprecate, retire, restore, quarantine, purge, gc)


def _step(server: str, version: str, what: str, body: Json, as_json: bool) -> None:
    with RestClient(server) as client:
        done = client.call("POST", f"{version_path(version)}/{what}", _given(body))[1]
    if as_json:
        show_json(done)
    else:
        print(f"{version} is {text(done.get('state'))}")


def _given(body: Json) -> Json:
    return {key: value for key, value in body.items() if value is not None}


def _show_collection(done: Json) -> None:
    purged = items(done, "purged")
    if purged:
        show_table(
            ("REFERENCE", "STATE", "SIZE"),
            [
                (text(v.get("reference")), text(v.get("state")), size(v.get("size_bytes")))
                for v in purged
            ],
        )
    would = "would go" if done.get("dry_run") else "gone"
    orphans = done.get("orphans")
    count = len(orphans) if isinstance(orphans, list) else 0
    print(f"{len(purged)} versions and {count} orphans {would}, {size(done.get('freed_bytes'))}")
    for title in ("kept", "refused"):
        if done.get(title):
            print(f"{title}: {text(done.get(title))}")
    if done.get("more"):
        print("there is more: run it again")
