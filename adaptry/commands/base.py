"""`adaptry base …` and `adaptry adapter recheck`: base models, and the versions bound to them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.client import ApiError
from adaptry.terminal.errors import CommandError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Reason, Server, connect, show_help
from adaptry.terminal.output import show_json, show_table, text

if TYPE_CHECKING:
    from adaptry.client import Client
    from adaptry.client.models import BaseList, BaseRead, VersionRead

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="List the base models of a registry, and declare which are compatible.",
)

Base = Annotated[str, typer.Argument(metavar="BASE", help="Its name, perhaps without revision.")]
Other = Annotated[str, typer.Argument(metavar="OTHER", help="Another one.")]

_NOT_OFFERED = ("pending", "rejected", "purged")


@app.command("list")
def list_(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """List every base model that a server on this database has served."""
    with connect(server) as client:
        _show(client.bases.list(), as_json)


@app.command()
def link(
    base: Base,
    other: Other,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Declare two base models compatible: servers of each serve the versions of the other."""
    with connect(server) as client:
        _show(client.bases.link(base, other, reason=reason), as_json)


@app.command()
def unlink(
    base: Base,
    other: Other,
    reason: Reason = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Withdraw that two base models are compatible."""
    with connect(server) as client:
        _show(client.bases.unlink(base, other, reason=reason), as_json)


def recheck(
    references: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME[:VERSION]", help="Repeatable [default: all adapters]."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="BASE", help="Take over the versions of this base model."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Inspect versions again, and bind those that fit to the base model that the server serves.

    Without --from: those that are bound to it, or to none. Exits with 1 if any does not fit.
    """
    with connect(server) as client:
        own = _own(client, server)
        served = {own.name, *own.links}
        outcomes = [
            _recheck(client, version, from_)
            for version in _chosen(client, references or [])
            if references or _is_meant(version, served, from_)
        ]
    if as_json:
        show_json([{"reference": name, "problem": problem} for name, problem in outcomes])
    else:
        rows = [(name, problem or f"fits {own.name}") for name, problem in outcomes]
        none = "no version to inspect is bound to it: `adaptry base list` shows how many each has"
        show_table(("REFERENCE", "OUTCOME"), rows, empty=none)
    if any(problem for _, problem in outcomes):
        raise typer.Exit(1)


def _own(client: "Client", server: str) -> "BaseRead":
    """The base model that the server serves. Raises CommandError."""
    for base in client.bases.list().items:
        if base.is_this:
            return base
    raise CommandError(f"{server} serves no base model: name a server that does, with --server URL")


def _chosen(client: "Client", references: list[str]) -> "Iterator[VersionRead]":
    if not references:
        yield from client.versions.search()
    for reference in references:
        if ":" in reference:
            yield client.versions.get(reference)
        else:
            yield from client.versions.list(reference)


def _is_meant(version: "VersionRead", served: set[str], from_: str | None) -> bool:
    if version.state in _NOT_OFFERED:
        return False
    if from_ is None:
        return version.base is None or version.base in served
    called = from_.partition("#")[0]
    return version.base is not None and called in (version.base, version.base.partition("@")[0])


def _recheck(client: "Client", version: "VersionRead", from_: str | None) -> tuple[str, str | None]:
    """The reference, and what is wrong with the version here."""
    try:
        client.versions.recheck(version.reference, from_base=from_)
    except ApiError as error:
        return version.reference, f"{error.code}: {error.detail}"
    return version.reference, None


def _show(found: "BaseList", as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    show_table(
        ("BASE", "DIGEST", "VERSIONS", "COMPATIBLE WITH"),
        [
            (
                f"{base.name} (served here)" if base.is_this else base.name,
                base.digest[:8],
                str(base.versions),
                text(base.links) or "-",
            )
            for base in found.items
        ],
    )
