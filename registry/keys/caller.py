"""Whoever sent the request that is being served; kept in a context variable meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from registry.keys.scopes import EVERY_SCOPE, Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is what events say of who did something."""

    name: str
    scopes: frozenset[Scope]

    def may(self, scopes: frozenset[Scope]) -> bool:
        """One of these is enough."""
        return Scope.ADMIN in self.scopes or bool(self.scopes & scopes)


ANYBODY = Caller("api", EVERY_SCOPE)
"""Where no keys are asked for."""

_caller: ContextVar[Caller] = ContextVar("adaptry_caller", default=ANYBODY)


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Everything that this task does in the block is done for this caller."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def acting() -> str:
    """The name under which the running request's changes are recorded."""
    return _caller.get().name
