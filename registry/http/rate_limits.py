"""Rate limit middleware (ASGI): of an address before authentication, of key and tenant after it."""

from ipaddress import IPv6Address, ip_network

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.auth.caller import current_caller
from registry.auth.client_address import client_address
from registry.errors import RateLimitExceeded
from registry.http.headers import find_header
from registry.http.problems import route_path, send_error
from registry.http.response_head import add_to_head
from registry.http.trusted_proxies import parse_address
from registry.rates.caller_rates import CallerRates, RequestRates
from registry.rates.windows import RateWindows

_PROBES = frozenset({"/healthz", "/readyz", "/health"})
_IN_SCOPE = "adaptry.rates"
_IPV6_PREFIX = 64  # of which one client has all addresses


def request_rates(scope: Scope) -> RequestRates | None:
    """Limits that apply to this request, if any do."""
    found: RequestRates | None = scope.get(_IN_SCOPE)
    return found


def with_rates(scope: Scope, rates: RequestRates) -> Scope:
    """The scope of a request to which these limits apply."""
    return {**scope, _IN_SCOPE: rates}


class AddressLimitMiddleware:
    """To be placed behind `ClientAddressMiddleware`. Probes are not counted."""

    def __init__(self, app: ASGIApp, *, windows: RateWindows, most_per_minute: int) -> None:
        self._app = app
        self._windows = windows
        self._most = most_per_minute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = client_address()
        if scope["type"] == "lifespan" or address is None or route_path(scope) in _PROBES:
            await self._app(scope, receive, send)
            return
        network = _network(address)
        if await self._windows.take(network, self._most, 1):
            await self._app(scope, receive, send)
            return
        state = await self._windows.state(network, self._most)
        wait = state.wait_seconds(self._most, 1)
        error = RateLimitExceeded(f"address {network}", "requests", self._most, 1, wait)
        await _refuse(scope, send, error, [])


class RateLimitMiddleware:
    """To be placed behind authentication. Tokens are taken by the gateway, which reads the body."""

    def __init__(self, app: ASGIApp, *, rates: CallerRates) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rates = self._rates.of(current_caller())
        if rates is None or scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await rates.take("requests", 1)
            if rates.limits("bytes"):
                await rates.take("bytes", _declared_bytes(scope))
                receive = _count_bytes(receive, rates)
        except RateLimitExceeded as error:
            await _refuse(scope, send, error, rates.headers())
            return

        send = add_to_head(scope, send, lambda _: rates.headers())
        try:
            await self._app(with_rates(scope, rates), receive, send)
        finally:
            await rates.settle()


def _network(address: str) -> str:
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_PREFIX), strict=False))
    return address


def _declared_bytes(scope: Scope) -> int:
    """1 if it is not declared: then it is counted as it comes."""
    length = find_header(scope, b"content-length") or ""
    return max(1, int(length)) if length.isdecimal() and len(length) < 19 else 1


def _count_bytes(receive: Receive, rates: RequestRates) -> Receive:
    rates.count("bytes", 0)  # what is not sent is given back

    async def counted() -> Message:
        message = await receive()
        content = message.get("body") or message.get("text") or message.get("bytes") or b""
        rates.count("bytes", len(content))
        return message

    return counted


async def _refuse(
    scope: Scope, send: Send, error: RateLimitExceeded, headers: list[tuple[bytes, bytes]]
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.code})
        return
    await send_error(scope, send, error, headers)
