"""Rates on the command line: what was used of limits per minute."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptry.terminal.output import show_json, show_table

if TYPE_CHECKING:
    from adaptry.client.models import RateUsageRead, UsedRateRead


def show_rates(found: "Sequence[RateUsageRead]", as_json: bool, *, empty: str = "") -> None:
    """A table of `used/limit`, or JSON."""
    if as_json:
        show_json(list(found))
        return
    rows = ((e.name, _used(e.requests), _used(e.tokens), _used(e.bytes)) for e in found)
    show_table(("NAME", "REQUESTS", "TOKENS", "BYTES"), rows, empty=empty)


def _used(rate: "UsedRateRead | None") -> str:
    return "-" if rate is None else f"{rate.used}/{rate.limit}"
