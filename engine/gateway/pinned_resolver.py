"""Pinned resolver: a request that the ingress has resolved keeps the version it got there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from engine.ports import Resolver
from engine.types import AdapterVersion

_reference: ContextVar[str | None] = ContextVar("adaptry_pinned_reference", default=None)


@contextmanager
def pin_reference(reference: str | None) -> Iterator[None]:
    """In the block every `resolve` of this task resolves `reference` (`name:3`), unless None."""
    token = _reference.set(reference)
    try:
        yield
    finally:
        _reference.reset(token)


class PinnedResolver:
    """A `Resolver` of the pinned reference. The caller's right to see it is checked again."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        """Raises the registry's errors."""
        return await self._resolver.resolve(_reference.get() or text, user)

    async def find(self, text: str) -> AdapterVersion:
        """Raises the registry's errors."""
        return await self._resolver.find(text)
