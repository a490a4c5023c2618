"""Exchange with a server over `http.client`, for commands: httpx takes 50 ms of CPU to start.

What has a body of files, or goes through a proxy, is left to httpx.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    IncompleteRead,
    RemoteDisconnected,
)
from select import select
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from adaptry.client.errors import NoAnswer
from adaptry.client.transport.exchange import Exchange, OpenAnswer
from adaptry.client.transport.http import IDLE_SECONDS, LOOPBACK, Answer, Options
from adaptry.client.transport.requests import QueryValue, Request

if TYPE_CHECKING:
    import ssl

_CHUNK_BYTES = 2**16
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})  # OpenSSL 3.0, and newer
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})


@dataclass(slots=True)
class PlainAnswer:
    """A response of http.client. `content` is there once it has been read."""

    response: HTTPResponse
    options: Options
    content: bytes = b""

    @property
    def status_code(self) -> int:
        return self.response.status

    @property
    def reason_phrase(self) -> str:
        return self.response.reason

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.lower(): value for name, value in self.response.headers.items()}

    @property
    def is_error(self) -> bool:
        return self.status_code >= 400

    def read(self) -> bytes:
        with _translate_errors(self.options):
            self.content = self.response.read()
        return self.content

    def iter_bytes(self) -> Iterator[bytes]:
        while chunk := self._next_chunk():
            yield chunk

    def _next_chunk(self) -> bytes:
        with _translate_errors(self.options):
            chunk = self.response.read1(_CHUNK_BYTES)
            if not chunk and self.response.length:  # read1 takes the connection's end for its
                raise IncompleteRead(b"", self.response.length)
            return chunk


class PlainExchange:
    """One connection at a time to one server; the last one is used again."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._url = urlsplit(options.base_url)
        self._idle: HTTPConnection | None = None
        self._idle_since = 0.0

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()
        if "_httpx" in self.__dict__:
            self._httpx.close()

    def send(self, request: Request) -> Answer:
        if request.files is not None or request.content is not None or not self._is_plain:
            return self._httpx.send(request)
        with self._begin(request, request.timeout_seconds, {}) as answer:
            answer.read()
            return answer

    @contextmanager
    def open(
        self, request: Request, timeout_seconds: float | None, headers: Mapping[str, str]
    ) -> Iterator[OpenAnswer]:
        begin = self._begin if self._is_plain else self._httpx.open
        with begin(request, timeout_seconds, headers) as answer:
            yield answer

    @cached_property
    def _httpx(self) -> Exchange:
        from adaptry.client.transport.httpx_exchange import HttpxExchange

        return HttpxExchange(self._options)

    @cached_property
    def _is_plain(self) -> bool:
        """Whether a connection leads straight to the server."""
        if not self._options.has_simple_url:
            return False
        return self._url.hostname in LOOPBACK or not _has_proxies()

    @contextmanager
    def _begin(
        self, request: Request, timeout_seconds: float | None, headers: Mapping[str, str]
    ) -> Iterator[PlainAnswer]:
        """The connection is kept for the next request if this one's answer was read to its end."""
        with _translate_errors(self._options):
            connection = self._connect(timeout_seconds)
        try:
            with _translate_errors(self._options):
                connection.request(
                    request.method,
                    self._target(request),
                    _body(request),
                    self._headers(request, headers),
                )
                response = connection.getresponse()
            yield PlainAnswer(response, self._options)
            if response.isclosed() and connection.sock is not None:
                self._idle, self._idle_since = connection, time.monotonic()
        finally:
            if self._idle is not connection:
                connection.close()

    def _connect(self, timeout_seconds: float | None) -> HTTPConnection:
        connect_seconds, read_seconds = self._options.limits(timeout_seconds)
        connection, self._idle = self._idle, None
        if connection is not None and not self._is_usable(connection):
            connection.close()
            connection = None
        if connection is None:
            connection = self._new_connection(connect_seconds)
            connection.connect()
        connection.sock.settimeout(read_seconds)
        return connection

    def _is_usable(self, connection: HTTPConnection) -> bool:
        """What can be read before there is a request is the end of the connection."""
        is_young = time.monotonic() - self._idle_since < IDLE_SECONDS
        return is_young and not select([connection.sock], [], [], 0)[0]

    def _new_connection(self, connect_seconds: float) -> HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "http":
            return HTTPConnection(host, port, timeout=connect_seconds)
        from http.client import HTTPSConnection

        context = _create_ssl_context(uses_environment=host not in LOOPBACK)
        return HTTPSConnection(host, port, timeout=connect_seconds, context=context)

    def _target(self, request: Request) -> str:
        query = [(name, _format_value(value)) for name, value in request.query.items()]
        path = self._url.path.rstrip("/") + request.path
        return f"{path}?{urlencode(query, doseq=True, quote_via=quote)}" if query else path

    def _headers(self, request: Request, more: Mapping[str, str]) -> dict[str, str]:
        found = {"accept": "*/*", "user-agent": "adaptry"}
        if self._options.api_key:
            found["authorization"] = f"Bearer {self._options.api_key}"
        if request.body is not None:
            found["content-type"] = "application/json"
        return {**found, **request.headers, **more}


def _body(request: Request) -> bytes | None:
    if request.body is None:
        return None
    separators = (",", ":")
    return json.dumps(
        request.body, ensure_ascii=False, separators=separators, allow_nan=False
    ).encode()


def _format_value(value: QueryValue) -> str | list[str]:
    """As httpx writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else list(value)


def _has_proxies() -> bool:
    """Systems other than Linux also have them in places that `urllib` knows."""
    if sys.platform in {"darwin", "win32"}:
        return True
    return any(value and name.lower() in _PROXIES for name, value in os.environ.items())


def _create_ssl_context(*, uses_environment: bool) -> "ssl.SSLContext":
    """The authorities that httpx trusts."""
    import ssl

    import certifi

    if uses_environment and (file := os.environ.get("SSL_CERT_FILE")):
        return ssl.create_default_context(cafile=file)
    if uses_environment and (folder := os.environ.get("SSL_CERT_DIR")):
        return ssl.create_default_context(capath=folder)
    return ssl.create_default_context(cafile=certifi.where())


@contextmanager
def _translate_errors(options: Options) -> Iterator[None]:
    """Raises http.client's errors as NoAnswer."""
    try:
        yield
    except (OSError, HTTPException) as error:
        raise NoAnswer(options.base_url, _reason(error)) from error


def _reason(error: OSError | HTTPException) -> str:
    if getattr(error, "reason", None) in _NO_TLS:  # an SSLError's
        return "no TLS is spoken there: write http://"
    match error:
        case RemoteDisconnected():
            return "Server disconnected without sending a response."
        case BadStatusLine():
            return "what it says is not HTTP"
        case IncompleteRead():
            return "the answer broke off before its end"
        case OSError() if error.strerror and error.errno:  # without the number of the error
            return error.strerror
        case _:
            return str(error) or type(error).__name__
