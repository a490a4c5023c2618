"""A request whose reference was resolved before it came here means that version and no other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from engine.ports import Resolver
from engine.types import AdapterVersion

_reference: ContextVar[str | None] = ContextVar("adaptry_resolved_before", default=None)


@contextmanager
def resolved_before(reference: str | None) -> Iterator[None]:
    """What this task resolves in the block means `reference` (`name:3`), if that is given."""
    token = _reference.set(reference)
    try:
        yield
    finally:
        _reference.reset(token)


class ResolvedBefore:
    """A `Resolver` that keeps to it. Whether the caller may see it is asked again."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        """Raises the registry's errors."""
        return await self._resolver.resolve(_reference.get() or text, user)

    async def find(self, text: str) -> AdapterVersion:
        """Raises the registry's errors."""
        return await self._resolver.find(text)
