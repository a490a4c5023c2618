"""Served names: any printable text that clients may write as `model`, besides references."""

import unicodedata

from registry.errors import InvalidReference, InvalidServedName
from registry.references import AdapterReference, parse_reference, tenant_of

MAX_SERVED_NAME = 256
MAX_WRITTEN = 4 * MAX_SERVED_NAME  # a character may be written as several


def normalize_served_name(text: str) -> str | None:
    """The form in which it is stored; None if no served name is written so.

    Composed by Unicode's NFC, so that `ö` is one name however a client writes it.
    """
    if not text or len(text) > MAX_WRITTEN or not text.isprintable():
        return None
    name = text if text.isascii() else unicodedata.normalize("NFC", text)
    if len(name) > MAX_SERVED_NAME or name != name.strip() or not name.isprintable():
        return None
    return None if _is_more_than_a_name(name) else name


def check_served_name(text: str) -> str:
    """The form in which it is stored. Raises InvalidServedName."""
    name = normalize_served_name(text)
    if name is not None:
        return name
    if text.isprintable() and _is_more_than_a_name(text):
        rule = "name:3, name@alias and tenant~name are references, never served names"
    else:
        rule = (
            f"a served name has 1 to {MAX_SERVED_NAME} printable characters,"
            " no space at its beginning or end"
        )
    raise InvalidServedName(f"{text[:80]!r}: {rule}")


def reference_or_none(text: str) -> AdapterReference | None:
    """The reference that is written so."""
    try:
        return parse_reference(text)
    except InvalidReference:
        return None


def _is_more_than_a_name(text: str) -> bool:
    """Only `name` itself may be a served name too: `name:3` always means that version."""
    reference = reference_or_none(text)
    return reference is not None and (
        str(reference) != reference.adapter or tenant_of(reference.adapter) is not None
    )
