"""`adaptry adapter deprecate | retire | restore | quarantine | purge | gc`: version lifecycle."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, cast

import typer

from adaptry.client import ApiError
from adaptry.terminal.completion import version_references
from adaptry.terminal.errors import UsageError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Reason, Server, Version, connect
from adaptry.terminal.output import counted, show_json, show_table, size, text

if TYPE_CHECKING:
    from adaptry.client import Client
    from adaptry.client.models import GarbageRead, VersionRead, VersionState

_UNPROVEN = "adapter_load_failed"
"""The code of a quarantine by releases that took any failed load for the version's fault."""

_UNPROVEN_REASON = "quarantined without proof, by an earlier release: its files are undamaged"


def deprecate(
    version: Version,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Keep serving a version, with a deprecation header in each response."""
    _change_state(server, lambda client: client.versions.deprecate(version, reason=reason), as_json)


def retire(
    version: Version,
    move_aliases_to: Annotated[
        int | None, typer.Option(help="Move its aliases to this version.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even if aliases point at it.")] = False,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Refuse new requests for a version; requests in progress complete normally."""
    _change_state(
        server,
        lambda client: client.versions.retire(
            version, reason=reason, force=force, move_aliases_to=move_aliases_to
        ),
        as_json,
    )


def restore(
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME:VERSION",
            help="Such as upper:3; or --all-unproven.",
            autocompletion=version_references,
        ),
    ] = None,
    all_unproven: Annotated[
        bool,
        typer.Option(
            "--all-unproven",
            help="Every version that an earlier release quarantined because a load had failed, if "
            "its files agree with their digest.",
        ),
    ] = False,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Make a version ready again that was deprecated, retired or quarantined.

    With --all-unproven: exits with 1 if any stays quarantined, with the reason in the output.
    """
    if all_unproven == (version is not None):
        raise UsageError("name one version, or say --all-unproven")
    if version is not None:
        _change_state(
            server, lambda client: client.versions.restore(version, reason=reason), as_json
        )
        return
    with connect(server) as client:
        outcomes = [
            _restore(client, found.reference, reason or _UNPROVEN_REASON)
            for found in client.versions.search(states=["quarantined"])
            if found.state_code == _UNPROVEN
        ]
    if as_json:
        show_json([{"reference": name, "problem": problem} for name, problem in outcomes])
    else:
        rows = [(name, problem or "ready") for name, problem in outcomes]
        none = "no version is quarantined for a failed load: nothing was to be restored"
        show_table(("REFERENCE", "OUTCOME"), rows, empty=none)
    if any(problem for _, problem in outcomes):
        raise typer.Exit(1)


def quarantine(
    version: Version,
    reason: Annotated[str, typer.Option(help="What is wrong with it.")],
    code: Annotated[str, typer.Option(help="The reason's code, for programs.")] = "operator",
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Stop serving a version, whatever points at it, until it is restored."""
    _change_state(
        server, lambda client: client.versions.quarantine(version, reason, code=code), as_json
    )


def purge(
    version: Version,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Delete the files of a retired, quarantined or rejected version."""
    with connect(server) as client:
        done = client.versions.purge(version, reason=reason)
    if as_json:
        show_json(done)
    else:
        print(f"{version} is purged, {size(done.freed_bytes)} freed")
        _show_pending(done.pending_bytes)


def gc(
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Delete, or only list what would be deleted.")
    ] = False,
    keep_last: Annotated[
        int, typer.Option(min=0, help="Keep the newest versions of each adapter.")
    ] = 5,
    rollback_days: Annotated[
        float,
        typer.Option(min=0, help="Keep versions that an alias pointed at within so many days."),
    ] = 30,
    state: Annotated[
        list[str] | None, typer.Option(help="Versions in this state; repeatable.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="Only of this adapter.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Delete the files of old versions that no alias points at; by default only list them."""
    with connect(server) as client:
        done = client.versions.collect_garbage(
            dry_run=not apply,
            keep_last=keep_last,
            rollback_window_days=rollback_days,
            states=cast("list[VersionState] | None", state or None),
            adapter=adapter,
        )
    if as_json:
        show_json(done)
    else:
        _show_collection(done)


COMMANDS = (deprecate, retire, restore, quarantine, purge, gc)


def _restore(client: "Client", reference: str, reason: str) -> tuple[str, str | None]:
    """The reference, and why the version stays as it is. The server hashes its files."""
    try:
        client.versions.restore(reference, reason=reason)
    except ApiError as error:
        return reference, f"{error.code}: {error.detail}"
    return reference, None


def _change_state(server: str, change: "Callable[[Client], VersionRead]", as_json: bool) -> None:
    with connect(server) as client:
        done = change(client)
    if as_json:
        show_json(done)
    else:
        print(f"{done.reference} is {done.state}")


def _show_pending(size_bytes: int) -> None:
    if size_bytes:
        print(f"{size(size_bytes)} more once the store has deleted them, which may take a while")


def _show_collection(done: "GarbageRead") -> None:
    if done.purged:
        show_table(
            ("REFERENCE", "STATE", "SIZE"),
            [(each.reference, each.state, size(each.size_bytes)) for each in done.purged],
        )
    outcome = "would be deleted" if done.dry_run else "deleted"
    counts = f"{counted(len(done.purged), 'version')} and {counted(len(done.orphans), 'orphan')}"
    print(f"{counts} {outcome}, {size(done.freed_bytes)}")
    _show_pending(done.pending_bytes)
    if done.kept:
        print(f"kept: {text(done.kept)}")
    if done.refused:
        print(f"refused: {text(done.refused)}")
    if done.more:
        print("there are more: run it again")
