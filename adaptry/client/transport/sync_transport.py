"""Carries calls out and waits for them."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx

from adaptry.client.errors import AdaptryError, NoAnswer, TooManyRequests, Unavailable
from adaptry.client.response import Answer
from adaptry.client.transport.http import Options, refusal, success
from adaptry.client.transport.requests import FOR_EVER, Flow, Given, Pause, Reply, Request, Step
from adaptry.client.transport.sse import ALIVE_SECONDS, EventReader

R = TypeVar("R")
M = TypeVar("M", bound=Answer)


class SyncSender:
    """One pool of connections to one server."""

    def __init__(self, options: Options, transport: httpx.BaseTransport | None = None) -> None:
        self.options = options
        self._http = httpx.Client(**options.for_httpx(), transport=transport)

    def close(self) -> None:
        self._http.close()

    def run(self, flow: Flow[R]) -> R:
        """Its result. Raises AdaptryError."""
        try:
            step = next(flow)
            while True:
                try:
                    reply = self._done(step)
                except AdaptryError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            flow.close()

    def pages(
        self, page: Callable[[Given, str], Flow[tuple[list[M], str]]], asked: Given
    ) -> Generator[M, None, None]:
        token = ""
        while True:
            items, token = self.run(page(asked, token))
            yield from items
            if not token:
                return

    def stream(self, request: Request, item: Callable[[str], M]) -> Generator[M, None, None]:
        reader = EventReader()
        while True:
            lost: AdaptryError | None = None
            try:
                for chunk in self._chunks_of_events(request, reader):
                    yield from map(item, reader.feed(chunk))
            except (NoAnswer, TooManyRequests, Unavailable) as error:
                lost = error
            time.sleep(reader.pause_seconds(lost))

    @contextmanager
    def download(self, request: Request) -> Iterator[Iterator[bytes]]:
        arguments = self.options.arguments(request) | {"timeout": self.options.timeout(FOR_EVER)}
        with self._translated(), self._http.stream(**arguments) as response:
            if response.is_error:
                response.read()
                raise refusal(response)
            yield response.iter_bytes()

    def _chunks_of_events(self, request: Request, reader: EventReader) -> Iterator[bytes]:
        arguments = self.options.arguments(request)
        arguments |= {"headers": reader.headers(), "timeout": self.options.timeout(ALIVE_SECONDS)}
        with self._translated(), self._http.stream(**arguments) as response:
            if response.is_error:
                response.read()
                raise refusal(response)
            reader.connected()
            yield from response.iter_bytes()

    def _done(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return Reply(0, {})
        with self._translated():
            return success(self._http.request(**self.options.arguments(step)))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL) as error:
            raise self.options.failure(error) from error
