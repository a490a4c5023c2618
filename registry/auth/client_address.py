"""Where the request that is being served came from; kept in a context variable meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOCAL = "local"
"""Of what a command on this machine changed in the database itself."""

MAX_ADDRESS = 64

_address: ContextVar[str | None] = ContextVar("adaptry_address", default=None)


@contextmanager
def from_address(address: str | None) -> Iterator[None]:
    """Everything that this task does in the block is done for whoever is at this address."""
    token = _address.set(address)
    try:
        yield
    finally:
        _address.reset(token)


def client_address() -> str | None:
    """The address with which the running request's changes are recorded.

    None where nobody asked for them: the server does some by itself.
    """
    return _address.get()
