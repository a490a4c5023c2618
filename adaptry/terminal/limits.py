"""Limits on the command line: `NAME=N` and `NAME=none`, of tenants and of keys."""

from collections.abc import Sequence

from adaptry.client.transport.requests import UNSET, Unset
from adaptry.terminal.errors import UsageError

RATES = ("max_requests_per_minute", "max_tokens_per_minute", "max_bytes_per_minute")


def limit_names(known: Sequence[str]) -> str:
    """The names as they are written."""
    return ", ".join(name.removeprefix("max_") for name in known)


def parse_limits(given: Sequence[str], known: Sequence[str]) -> dict[str, int | Unset | None]:
    """Of `slots=2`, `pins=none`. Raises UsageError."""
    limits: dict[str, int | Unset | None] = dict.fromkeys(known, UNSET)
    for text in given:
        name, _, number = text.partition("=")
        field = f"max_{name.removeprefix('max_').replace('-', '_')}"
        if field not in limits or not (number == "none" or number.isdecimal()):
            raise UsageError(
                f"{text!r} is no limit: NAME=N or NAME=none, where NAME is {limit_names(known)}"
            )
        limits[field] = None if number == "none" else int(number)
    return limits


def format_limits(limited: object, known: Sequence[str]) -> str:
    """As they are written; empty without any."""
    values = ((name.removeprefix("max_"), getattr(limited, name)) for name in known)
    return " ".join(f"{name}={value}" for name, value in values if value is not None)
