"""Egress guard: the hosts this server may call for a user (public, or allowed private ones).

A name is resolved once, its addresses are checked, and the connection goes to a checked address,
so that a name which then resolves to something else (DNS rebinding) changes nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from registry.errors import AddressNotAllowed, HostUnknown
from registry.sources.open_sockets import OpenSockets

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], list[str]]
"""Addresses of a host, perhaps none. Some systems need the port."""

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}
_CONNECTED = ("connection.connect_tcp.complete", "connection.start_tls.complete")


def system_addresses(host: str, port: int) -> list[str]:
    """Resolve with the system's resolver. Blocks."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # ValueError: not a valid name, such as one with a NUL
        return []
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True, slots=True)
class EgressGuard:
    """Public addresses may be called, others only in the `allowed` networks."""

    allowed: tuple[Network, ...] = ()
    resolve: Resolve = system_addresses

    def addresses(self, host: str, port: int) -> list[str]:
        """The host's addresses that may be called, in the resolver's order. Blocks.

        Raises HostUnknown, AddressNotAllowed.
        """
        found = self.resolve(host, port)
        if not found:
            raise HostUnknown(host)
        usable = [text for text in dict.fromkeys(found) if self.allows(text)]
        if not usable:
            raise AddressNotAllowed(host)
        return usable

    def allows(self, text: str) -> bool:
        """Whether this address, and every address embedded in it, may be called."""
        return all(
            any(address in network for network in self.allowed) or _is_public(address)
            for address in _targets(ipaddress.ip_address(text))
        )


def _is_public(address: Address) -> bool:
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False  # Python reports some obsolete ranges as global
    return address.is_global and not address.is_multicast


def _targets(address: Address) -> Iterator[Address]:
    """The address, or the IPv4 addresses that an IPv6 address maps or tunnels to."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    else:
        yield address
        yield from address.teredo or ()
        if address.sixtofour is not None:
            yield address.sixtofour


class GuardedTransport(httpx.AsyncBaseTransport):
    """Connects to checked addresses only; the certificate is still checked for the host's name.

    No connection is reused: a pool would mix up two names at one address.
    """

    def __init__(self, guard: EgressGuard) -> None:
        self._guard = guard
        self._inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host, port = _host_and_port(request)
        addresses = await asyncio.to_thread(self._guard.addresses, host, port)
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_direct_to(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._inner.handle_async_request(_direct_to(request, addresses[-1]))

    async def aclose(self) -> None:
        await self._inner.aclose()


class GuardedSyncTransport(httpx.BaseTransport):
    """The same for synchronous code, whose `sockets` may be ended from another thread."""

    def __init__(self, guard: EgressGuard, sockets: OpenSockets | None = None) -> None:
        self._guard = guard
        self._sockets = sockets or OpenSockets()
        self._inner = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        addresses = self._guard.addresses(*_host_and_port(request))
        request.extensions["trace"] = self._watch
        for address in addresses[:-1]:
            try:
                return self._inner.handle_request(_direct_to(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return self._inner.handle_request(_direct_to(request, addresses[-1]))

    def close(self) -> None:
        self._inner.close()

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore tells of connections in no other way before it has read an answer's headers."""
        if event in _CONNECTED:
            self._sockets.add(info["return_value"].get_extra_info("socket"))


def guarded_client(guard: EgressGuard, *, timeout_seconds: float) -> httpx.AsyncClient:
    """A client without redirects and proxies, which would bypass the guard."""
    return httpx.AsyncClient(
        transport=GuardedTransport(guard),
        timeout=timeout_seconds,
        follow_redirects=False,
        trust_env=False,
    )


def _host_and_port(request: httpx.Request) -> tuple[str, int]:
    url = request.url
    return url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]


def _direct_to(request: httpx.Request, address: str) -> httpx.Request:
    """The same request to an address; `Host` and the TLS name remain the URL's."""
    host, _ = _host_and_port(request)
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
