"""What a shell offers after TAB: names that the server knows, if it answers at once."""

import os
from collections.abc import Callable, Iterator
from itertools import islice

import typer

from adaptry.client import AdaptryError
from adaptry.client.client import DEFAULT_SERVER, Client

SECONDS = 1.0
MOST = 100


def adapter_names(context: typer.Context, incomplete: str) -> list[str]:
    return _asked(context, lambda client: _names(client, incomplete))


def version_references(context: typer.Context, incomplete: str) -> list[str]:
    """`up` → upper, upper:1; `upper:` → its versions."""
    return _asked(context, lambda client: _versions(client, incomplete))


def references(context: typer.Context, incomplete: str) -> list[str]:
    """Names, and after a sign the versions or aliases of one."""
    return _asked(context, lambda client: _references(client, incomplete))


def aliases_of(context: typer.Context, incomplete: str) -> list[str]:
    """The aliases of the adapter that stands before on the line."""
    given = str(context.params.get("name") or context.params.get("reference") or "")
    name = given.partition(":")[0]
    return _asked(
        context,
        lambda client: (
            a.alias for a in client.aliases.list(name) if a.alias.startswith(incomplete)
        ),
    )


def _asked(context: typer.Context, ask: Callable[[Client], Iterator[str]]) -> list[str]:
    server = context.params.get("server") or os.environ.get("ADAPTRY_SERVER") or DEFAULT_SERVER
    key = os.environ.get("ADAPTRY_API_KEY") or None
    try:
        with Client(str(server), api_key=key, timeout_seconds=SECONDS) as client:
            return list(islice(ask(client), MOST))
    except AdaptryError:
        return []  # a shell has no place for it


def _names(client: Client, incomplete: str) -> Iterator[str]:
    for adapter in client.adapters.list(page_size=500):
        if adapter.name.startswith(incomplete):
            yield adapter.name


def _versions(client: Client, incomplete: str) -> Iterator[str]:
    name, colon, _ = incomplete.partition(":")
    if colon:
        found = (version.reference for version in client.versions.list(name))
        yield from (reference for reference in found if reference.startswith(incomplete))
        return
    for known in _names(client, incomplete):
        yield from (version.reference for version in client.versions.list(known))


def _aliases(client: Client, name: str, incomplete: str) -> Iterator[str]:
    found = (alias.alias for alias in client.aliases.list(name))
    yield from (alias for alias in found if alias.startswith(incomplete))


def _references(client: Client, incomplete: str) -> Iterator[str]:
    name, at, alias = incomplete.partition("@")
    if at:
        yield from (f"{name}@{found}" for found in _aliases(client, name, alias))
    elif ":" in incomplete:
        yield from _versions(client, incomplete)
    else:
        yield from _names(client, incomplete)
