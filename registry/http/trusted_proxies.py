"""Client address middleware (ASGI): the request's origin, past trusted proxies."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from registry.auth.client_address import MAX_ADDRESS, reset_address, set_address
from registry.http.headers import find_headers

_Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address


class ClientAddressMiddleware:
    """Determines the client's address; what clients claim themselves is ignored.

    `X-Forwarded-For` is read from the right, for as many entries as come from trusted proxies:
    each of these appended the address that called it.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[_Network] = ()) -> None:
        self._app = app
        self._trusted = tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        before = set_address(self._address(scope))
        try:
            await self._app(scope, receive, send)
        finally:
            reset_address(before)

    def _address(self, scope: Scope) -> str | None:
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        if not self._trusted:
            return _text_of(peer)
        address = parse_address(peer)
        if address is None or not self._is_trusted(address):
            return _text_of(peer)
        forwarded = ",".join(find_headers(scope, b"x-forwarded-for"))
        for text in reversed(forwarded.split(",")):
            before = parse_address(text.strip())
            if before is None:  # not written by a proxy that knew its caller
                break
            address = before
            if not self._is_trusted(address):
                break
        return str(address)

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


@lru_cache(maxsize=1024)
def parse_address(text: str) -> _Address | None:
    """Parse an address, with or without a port; IPv4-mapped IPv6 becomes IPv4."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=1024)
def _text_of(peer: str) -> str | None:
    address = parse_address(peer)
    return str(address) if address else peer[:MAX_ADDRESS] or None
