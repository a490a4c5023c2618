"""Opaque page tokens. A page starts after a key, so inserts neither repeat nor hide a row."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.errors import InvalidPageToken

Item = TypeVar("Item")

MAX_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """`next_token` is None on the last page."""

    items: Sequence[Item]
    next_token: str | None


def token_after(key: str | int) -> str:
    return base64.urlsafe_b64encode(f"after {key}".encode()).decode().rstrip("=")


def key_of(token: str | None) -> str | None:
    """The key that a token stands for. Raises InvalidPageToken."""
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


def number_of(token: str | None) -> int:
    """The same for keys that are numbers; 0 without a token."""
    key = key_of(token)
    if key is None:
        return 0
    if not (key.isascii() and key.isdigit() and len(key) < 19):
        raise InvalidPageToken
    return int(key)
