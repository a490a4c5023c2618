"""Opaque page tokens. A page starts after a key, so inserts neither repeat nor hide a row."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.errors import InvalidPageToken, InvalidReference
from registry.references import check_name

Item = TypeVar("Item")

MAX_LIMIT = 500
MAX_NUMBER = 2**31 - 1  # the maximum of PostgreSQL's integer type


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """`next_token` is None on the last page."""

    items: Sequence[Item]
    next_token: str | None


def token_after(key: str | int) -> str:
    return base64.urlsafe_b64encode(f"after {key}".encode()).decode().rstrip("=")


def key_of(token: str | None) -> str | None:
    """The key in a token. Raises InvalidPageToken."""
    if token is None:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidPageToken from None
    if not text.startswith("after "):
        raise InvalidPageToken
    return text.removeprefix("after ")


def number_of(token: str | None, largest: int = MAX_NUMBER) -> int:
    """The same for numeric keys up to the column's maximum; 0 without a token."""
    key = key_of(token)
    if key is None:
        return 0
    if not (key.isascii() and key.isdigit() and len(key) < 19 and int(key) <= largest):
        raise InvalidPageToken
    return int(key)


def name_of(token: str | None) -> str:
    """The same for keys that are names; empty without a token."""
    key = key_of(token)
    if key is None:
        return ""
    try:
        return check_name(key)
    except InvalidReference:
        raise InvalidPageToken from None


def page_of(rows: Sequence[Item], limit: int, key: Callable[[Item], str | int]) -> Page[Item]:
    """`rows` holds one more than `limit` if there is a next page."""
    more = len(rows) > limit
    items = rows[:limit]
    return Page(items, token_after(key(items[-1])) if more else None)
