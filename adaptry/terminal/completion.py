"""Shell completion: names from the server, if it responds within a second."""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import typer

from adaptry.client import AdaptryError
from adaptry.client.transport.requests import DEFAULT_SERVER

if TYPE_CHECKING:
    from adaptry.client import Client

SECONDS = 1.0
MAX_RESULTS = 100


def adapter_names(context: typer.Context, incomplete: str) -> list[str]:
    return _query(context, lambda client: _names(client, incomplete))


def version_references(context: typer.Context, incomplete: str) -> list[str]:
    """`up` → upper, upper:1; `upper:` → its versions."""
    return _query(context, lambda client: _versions(client, incomplete))


def references(context: typer.Context, incomplete: str) -> list[str]:
    """Names; after `:` or `@`, versions or aliases."""
    return _query(context, lambda client: _references(client, incomplete))


def aliases_of(context: typer.Context, incomplete: str) -> list[str]:
    """The aliases of the adapter that the command line names."""
    reference = str(context.params.get("name") or context.params.get("reference") or "")
    name = reference.partition(":")[0]
    return _query(
        context,
        lambda client: (
            a.alias for a in client.aliases.list(name) if a.alias.startswith(incomplete)
        ),
    )


def _query(context: typer.Context, ask: "Callable[[Client], Iterator[str]]") -> list[str]:
    from adaptry.client.client import CommandClient

    server = context.params.get("server") or os.environ.get("ADAPTRY_SERVER") or DEFAULT_SERVER
    key = os.environ.get("ADAPTRY_API_KEY") or None
    try:
        with CommandClient(str(server), api_key=key, timeout_seconds=SECONDS) as client:
            return list(islice(ask(client), MAX_RESULTS))
    except AdaptryError:
        return []  # a shell has no place for errors


def _names(client: "Client", incomplete: str) -> Iterator[str]:
    for adapter in client.adapters.list(page_size=500):
        if adapter.name.startswith(incomplete):
            yield adapter.name


def _versions(client: "Client", incomplete: str) -> Iterator[str]:
    name, colon, _ = incomplete.partition(":")
    if colon:
        found = (version.reference for version in client.versions.list(name))
        yield from (reference for reference in found if reference.startswith(incomplete))
        return
    for known in _names(client, incomplete):
        yield from (version.reference for version in client.versions.list(known))


def _aliases(client: "Client", name: str, incomplete: str) -> Iterator[str]:
    found = (alias.alias for alias in client.aliases.list(name))
    yield from (alias for alias in found if alias.startswith(incomplete))


def _references(client: "Client", incomplete: str) -> Iterator[str]:
    name, at, alias = incomplete.partition("@")
    if at:
        yield from (f"{name}@{found}" for found in _aliases(client, name, alias))
    elif ":" in incomplete:
        yield from _versions(client, incomplete)
    else:
        yield from _names(client, incomplete)
