"""Blocking transport: executes request flows and waits for their responses."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from adaptry.client.errors import AdaptryError, NoAnswer, TooManyRequests, Unavailable
from adaptry.client.models.response import ResponseModel
from adaptry.client.transport.exchange import Exchange, OpenAnswer
from adaptry.client.transport.http import Options, api_error, parse_success
from adaptry.client.transport.requests import (
    Action,
    Parameters,
    Pause,
    Request,
    RequestFlow,
    Response,
)
from adaptry.client.transport.sse import ALIVE_SECONDS, BROKEN_OFF, DONE, EventReader

R = TypeVar("R")
M = TypeVar("M", bound=ResponseModel)
NO_HEADERS: Mapping[str, str] = {}


class SyncTransport:
    """Talks to one server."""

    def __init__(self, options: Options, exchange: Exchange) -> None:
        self.options = options
        self._exchange = exchange

    def close(self) -> None:
        self._exchange.close()

    def run(self, flow: RequestFlow[R]) -> R:
        """Execute a flow to its result. Raises AdaptryError."""
        try:
            action = next(flow)
            while True:
                try:
                    response = self._perform(action)
                except AdaptryError as error:
                    action = flow.throw(error)
                else:
                    action = flow.send(response)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            flow.close()

    def pages(
        self,
        page: Callable[[Parameters, str], RequestFlow[tuple[list[M], str]]],
        parameters: Parameters,
    ) -> Generator[M, None, None]:
        token = ""
        while True:
            items, token = self.run(page(parameters, token))
            yield from items
            if not token:
                return

    def stream(self, request: Request, parse: Callable[[str], M]) -> Generator[M, None, None]:
        reader = EventReader()
        while True:
            lost: AdaptryError | None = None
            try:
                for chunk in self._event_chunks(request, reader):
                    yield from map(parse, reader.feed(chunk))
            except (NoAnswer, TooManyRequests, Unavailable) as error:
                lost = error
            time.sleep(reader.pause_seconds(lost))

    def answer(self, request: Request, parse: Callable[[str], M]) -> Generator[M, None, None]:
        """Raises NoAnswer if it breaks off before its end."""
        reader = EventReader()
        with self._open(request, request.timeout_seconds, headers=reader.headers()) as response:
            for chunk in response.iter_bytes():
                for data in reader.feed(chunk):
                    if data == DONE:
                        return
                    yield parse(data)
        raise NoAnswer(self.options.base_url, BROKEN_OFF)

    @contextmanager
    def download(self, request: Request) -> Iterator[Iterator[bytes]]:
        with self._open(request, request.timeout_seconds) as response:
            yield response.iter_bytes()

    def _event_chunks(self, request: Request, reader: EventReader) -> Iterator[bytes]:
        with self._open(request, ALIVE_SECONDS, headers=reader.headers()) as response:
            reader.connected()
            yield from response.iter_bytes()

    @contextmanager
    def _open(
        self,
        request: Request,
        timeout_seconds: float | None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Iterator[OpenAnswer]:
        """A successful response whose body has not been read. Raises ApiError, NoAnswer."""
        with self._exchange.open(request, timeout_seconds, headers) as response:
            if response.is_error:
                response.read()
                raise api_error(response)
            yield response

    def _perform(self, action: Action) -> Response:
        if isinstance(action, Pause):
            time.sleep(action.seconds)
            return Response(0, {})
        return parse_success(self._exchange.send(action))
