"""Asyncio transport: executes request flows on an event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

import httpx

from adaptry.client.errors import AdaptryError, NoAnswer, TooManyRequests, Unavailable
from adaptry.client.models.response import ResponseModel
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


class AsyncTransport:
    """One connection pool to one server, on one event loop."""

    def __init__(self, options: Options, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.options = options
        self._http = httpx.AsyncClient(**options.client_arguments(), transport=transport)

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, flow: RequestFlow[R]) -> R:
        """Execute a flow to its result. Raises AdaptryError."""
        try:
            action = next(flow)
            while True:
                try:
                    response = await self._perform(action)
                except AdaptryError as error:
                    action = flow.throw(error)
                else:
                    action = flow.send(response)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            flow.close()

    async def pages(
        self,
        page: Callable[[Parameters, str], RequestFlow[tuple[list[M], str]]],
        parameters: Parameters,
    ) -> AsyncGenerator[M, None]:
        token = ""
        while True:
            items, token = await self.run(page(parameters, token))
            for item in items:
                yield item
            if not token:
                return

    async def stream(self, request: Request, parse: Callable[[str], M]) -> AsyncGenerator[M, None]:
        reader = EventReader()
        while True:
            lost: AdaptryError | None = None
            try:
                async with aclosing(self._event_chunks(request, reader)) as chunks:
                    async for chunk in chunks:
                        for data in reader.feed(chunk):
                            yield parse(data)
            except (NoAnswer, TooManyRequests, Unavailable) as error:
                lost = error
            await asyncio.sleep(reader.pause_seconds(lost))

    async def answer(self, request: Request, parse: Callable[[str], M]) -> AsyncGenerator[M, None]:
        """Raises NoAnswer if it breaks off before its end."""
        reader = EventReader()
        timeout_seconds = request.timeout_seconds
        async with self._open(request, timeout_seconds, headers=reader.headers()) as response:
            async for chunk in response.aiter_bytes():
                for data in reader.feed(chunk):
                    if data == DONE:
                        return
                    yield parse(data)
        raise NoAnswer(self.options.base_url, BROKEN_OFF)

    @asynccontextmanager
    async def download(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._open(request, request.timeout_seconds) as response:
            yield response.aiter_bytes()

    async def _event_chunks(
        self, request: Request, reader: EventReader
    ) -> AsyncGenerator[bytes, None]:
        async with self._open(request, ALIVE_SECONDS, headers=reader.headers()) as response:
            reader.connected()
            async for chunk in response.aiter_bytes():
                yield chunk

    @asynccontextmanager
    async def _open(
        self, request: Request, timeout_seconds: float | None, **arguments: dict[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """A successful response whose body has not been read. Raises ApiError, NoAnswer."""
        given = self.options.request_arguments(request) | arguments
        given["timeout"] = self.options.timeout(timeout_seconds)
        with self.options.translate_errors():
            async with self._http.stream(**given) as response:
                if response.is_error:
                    await response.aread()
                    raise api_error(response)
                yield response

    async def _perform(self, action: Action) -> Response:
        if isinstance(action, Pause):
            await asyncio.sleep(action.seconds)
            return Response(0, {})
        if isinstance(action.content, Iterable):
            action = replace(action, content=_read_in_threads(action.content))
        with self.options.translate_errors():
            return parse_success(await self._http.request(**self.options.request_arguments(action)))


async def _read_in_threads(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Chunks of a file, read without blocking the event loop."""
    iterator = iter(chunks)
    while (chunk := await asyncio.to_thread(next, iterator, None)) is not None:
        yield chunk
