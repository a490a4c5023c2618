"""Engines that are down, in words: without them empty slots look free."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaptry.client.models import CacheRead


def engines_down(cache: "CacheRead") -> Iterator[str]:
    """One line, or none if all are up."""
    if names := [each.name for each in cache.replicas if not each.engine_up]:
        yield f"the engine of {', '.join(names)} is down: nothing is in memory there"
    elif not cache.engine_up:
        yield "the engine is down or asleep: nothing is in memory, and requests are refused"
