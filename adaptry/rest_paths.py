"""Where things are in the REST API."""

from urllib.parse import quote

from adaptry.errors import UsageError

API = "/api/v1"


def adapter_path(name: str) -> str:
    return f"{API}/adapters/{part(name)}"


def version_path(reference: str) -> str:
    """Of `name:3`. Raises UsageError."""
    name, _, number = reference.partition(":")
    if not number.isdecimal() or len(number) > 10:
        raise UsageError(f"{reference!r} names no version: write NAME:VERSION, such as upper:3")
    return f"{adapter_path(name)}/versions/{int(number)}"


def alias_path(name: str, alias: str) -> str:
    return f"{adapter_path(name)}/aliases/{part(alias)}"


def part(text: str) -> str:
    """One part of a path."""
    return quote(text, safe="@:")
