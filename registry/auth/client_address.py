"""Client address of the current request, kept in a context variable."""

from contextvars import ContextVar

from registry.context_value import ContextValue

LOCAL = "local"
"""Address recorded for changes by a command on the server's machine."""

MAX_ADDRESS = 64

_address: ContextVar[str | None] = ContextVar("adaptry_address", default=None)


def from_address(address: str | None) -> ContextValue[str | None]:
    """Record this client address with all changes in the block."""
    return ContextValue(_address, address)


def client_address() -> str | None:
    """The address that the current request's changes are recorded with.

    None for changes that the server makes without a request.
    """
    return _address.get()
