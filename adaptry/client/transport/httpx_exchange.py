"""Exchange with a server over httpx: uploads, proxies and any URL."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from adaptry.client.transport.exchange import OpenAnswer
from adaptry.client.transport.http import Answer, Options
from adaptry.client.transport.requests import Request


class HttpxExchange:
    """One connection pool to one server. Safe to share between threads."""

    def __init__(self, options: Options, transport: httpx.BaseTransport | None = None) -> None:
        self._options = options
        self._http = httpx.Client(**options.client_arguments(), transport=transport)

    def close(self) -> None:
        self._http.close()

    def send(self, request: Request) -> Answer:
        with self._options.translate_errors():
            return self._http.request(**self._options.request_arguments(request))

    @contextmanager
    def open(
        self, request: Request, timeout_seconds: float | None, headers: Mapping[str, str]
    ) -> Iterator[OpenAnswer]:
        given = self._options.request_arguments(request)
        given["headers"] = {**given["headers"], **headers}
        given["timeout"] = self._options.timeout(timeout_seconds)
        with self._options.translate_errors(), self._http.stream(**given) as response:
            yield response
