"""Sender: who takes a turn, or a share, where callers have to be told apart."""

from collections.abc import Hashable

from registry.auth.caller import current_caller
from registry.auth.client_address import client_address


def current_sender() -> Hashable:
    """The tenant of the current request; without one, its key and its address."""
    caller = current_caller()
    return caller.tenant or (caller.name, client_address())
