"""Carries calls out on an event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TypeVar

import httpx

from adaptry.client.errors import AdaptryError, NoAnswer, TooManyRequests, Unavailable
from adaptry.client.response import Answer
from adaptry.client.transport.http import Options, refusal, success
from adaptry.client.transport.requests import FOR_EVER, Flow, Given, Pause, Reply, Request, Step
from adaptry.client.transport.sse import ALIVE_SECONDS, EventReader

R = TypeVar("R")
M = TypeVar("M", bound=Answer)


class AsyncSender:
    """One pool of connections to one server, on one event loop."""

    def __init__(self, options: Options, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.options = options
        self._http = httpx.AsyncClient(**options.for_httpx(), transport=transport)

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, flow: Flow[R]) -> R:
        """Its result. Raises AdaptryError."""
        try:
            step = next(flow)
            while True:
                try:
                    reply = await self._done(step)
                except AdaptryError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            flow.close()

    async def pages(
        self, page: Callable[[Given, str], Flow[tuple[list[M], str]]], asked: Given
    ) -> AsyncGenerator[M, None]:
        token = ""
        while True:
            items, token = await self.run(page(asked, token))
            for item in items:
                yield item
            if not token:
                return

    async def stream(self, request: Request, item: Callable[[str], M]) -> AsyncGenerator[M, None]:
        reader = EventReader()
        while True:
            lost: AdaptryError | None = None
            try:
                async with aclosing(self._chunks_of_events(request, reader)) as chunks:
                    async for chunk in chunks:
                        for data in reader.feed(chunk):
                            yield item(data)
            except (NoAnswer, TooManyRequests, Unavailable) as error:
                lost = error
            await asyncio.sleep(reader.pause_seconds(lost))

    @asynccontextmanager
    async def download(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        arguments = self.options.arguments(request) | {"timeout": self.options.timeout(FOR_EVER)}
        with self._translated():
            async with self._http.stream(**arguments) as response:
                if response.is_error:
                    await response.aread()
                    raise refusal(response)
                yield response.aiter_bytes()

    async def _chunks_of_events(
        self, request: Request, reader: EventReader
    ) -> AsyncGenerator[bytes, None]:
        arguments = self.options.arguments(request)
        arguments |= {"headers": reader.headers(), "timeout": self.options.timeout(ALIVE_SECONDS)}
        with self._translated():
            async with self._http.stream(**arguments) as response:
                if response.is_error:
                    await response.aread()
                    raise refusal(response)
                reader.connected()
                async for chunk in response.aiter_bytes():
                    yield chunk

    async def _done(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return Reply(0, {})
        if isinstance(step.content, Iterable):
            step = replace(step, content=_beside_the_loop(step.content))
        with self._translated():
            return success(await self._http.request(**self.options.arguments(step)))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL) as error:
            raise self.options.failure(error) from error


async def _beside_the_loop(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Files are read by threads."""
    following = iter(chunks)
    while (chunk := await asyncio.to_thread(next, following, None)) is not None:
        yield chunk
