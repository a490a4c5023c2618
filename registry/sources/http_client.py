"""HTTP connections guarded by address: aiohttp, which all of fsspec's network parts use."""

import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from registry.errors import (
    AddressNotAllowed,
    InvalidRedirect,
    InvalidSource,
    RegistryError,
    SourceDenied,
    SourceNotAllowed,
    SourceNotFound,
    SourceUnavailable,
)
from registry.sources.egress_guard import EgressGuard

CONNECT_SECONDS = 15.0
READ_SECONDS = 30.0
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DENIED = frozenset({401, 403, 407})
_NOT_FOUND = frozenset({404, 410})
_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError",  # botocore's
        "PartialCredentialsError",
        "ClientAuthenticationError",  # Azure's
    }
)
_QUERY = re.compile(r"\?[^\s'\"]+")


class GuardedSockets:
    """Socket factory that refuses addresses that are not allowed.

    It checks the address being connected to, so it does not matter whether that came from the URL,
    a redirect, or a name that now resolves differently.
    """

    def __init__(self, guard: EgressGuard) -> None:
        self._guard = guard
        self.refused: str | None = None

    def __call__(self, address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        """For `aiohttp.TCPConnector(socket_factory=…)`; the argument is from `getaddrinfo`.

        Raises AddressNotAllowed, which no library treats as transient. aiohttp then tries the
        name's other addresses.
        """
        family, kind, protocol, _, where = address
        if not self._guard.allows(str(where[0]).partition("%")[0]):
            self.refused = str(where[0])
            raise AddressNotAllowed(self.refused)
        return socket.socket(family, kind, protocol)

    @asynccontextmanager
    async def translate_errors(self, shown: str) -> AsyncIterator[None]:
        """Translate network errors to registry errors."""
        try:
            yield
        except (RegistryError, FileNotFoundError):
            raise
        except Exception as error:
            if self.refused is not None:
                raise AddressNotAllowed(self.refused) from error
            raise _error(error, shown) from error


def _error(error: Exception, shown: str) -> RegistryError:
    status = _status(error)
    denied = isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS
    if denied or status in _DENIED:
        return SourceDenied(f"{shown} wants credentials, or other ones: {_error_text(error)}")
    if status in _NOT_FOUND:
        return SourceNotFound(f"there is no {shown}")
    match error:
        case aiohttp.TooManyRedirects():
            return InvalidRedirect(f"{shown} is redirected too many times")
        case aiohttp.RedirectClientError():
            return InvalidRedirect(f"{shown} is redirected to no http or https URL")
        case aiohttp.InvalidURL():
            return InvalidSource(f"{shown} is no URL that can be requested")
    return SourceUnavailable(f"{shown} can't be read now: {_error_text(error)}")


def _status(error: Exception) -> int | None:
    """aiohttp's name for it, or Azure's."""
    return getattr(error, "status", None) or getattr(error, "status_code", None)


def _error_text(error: Exception) -> str:
    """The error's text; queries are removed from URLs, as they can hold a signature."""
    status = _status(error)
    text = f"status {status}" if status else " ".join(str(error).split()) or type(error).__name__
    return _QUERY.sub("?…", text)[:300]


def guarded_session(
    sockets: GuardedSockets, may_call: Callable[[URL], None], **options: Any
) -> aiohttp.ClientSession:
    """`may_call` is called before every request, redirects included; it raises to refuse."""

    async def check(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        may_call(request.url)
        response = await handler(request)
        if response.status in _REDIRECTS and not response.headers.get("Location"):
            response.close()
            raise InvalidRedirect(f"{request.url.with_query(None)} is redirected to nowhere")
        if response.status >= 400:
            response.close()  # its body is not needed, and fsspec would leave it open
        return response

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=sockets),
        middlewares=(check,),
        timeout=TIMEOUT,
        auto_decompress=False,
        **options,
    )


def forbid_downgrade(first: URL) -> Callable[[URL], None]:
    """Check that https is not redirected to http."""

    def check(url: URL) -> None:
        if first.scheme == "https" and url.scheme != "https":
            raise SourceNotAllowed(f"{first.host} leads to {url.host} without TLS")

    return check
