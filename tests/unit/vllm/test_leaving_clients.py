"""Handlers of vLLM's routes: ended when their client leaves, in the task of the request."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from engine.vllm.waits.leaving_clients import end_if_client_leaves, watch_clients_in_place

BODY = object()


class Client:
    def __init__(self) -> None:
        self.leaves = asyncio.Event()

    async def listen(self, request: Any) -> None:
        await self.leaves.wait()


def watched(client: Client, handler: Callable[[Any, Any], Awaitable[Any]]) -> Awaitable[Any]:
    request = SimpleNamespace()
    return end_if_client_leaves(handler, client.listen)(BODY, request)


async def test_a_handler_answers_in_the_task_of_its_request() -> None:
    async def handler(body: Any, raw_request: Any) -> Any:
        await asyncio.sleep(0)
        return asyncio.current_task()

    assert await watched(Client(), handler) is asyncio.current_task()


async def test_a_handler_is_cancelled_when_its_client_leaves_and_its_task_goes_on() -> None:
    ended: list[str] = []
    client = Client()

    async def handler(body: Any, raw_request: Any) -> Any:
        try:
            client.leaves.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    assert await watched(client, handler) is None
    assert ended == ["cleaned up"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with asyncio.timeout(1):  # which would take an earlier cancellation for its own
        await asyncio.sleep(0)


async def test_an_answer_that_comes_with_the_clients_end_is_dropped() -> None:
    """A handler may take its cancellation for an error of its own, and answer."""
    client = Client()

    async def handler(body: Any, raw_request: Any) -> Any:
        client.leaves.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "an error of a client that has gone"

    assert await watched(client, handler) is None
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_client_that_leaves_after_the_answer_cancels_nothing() -> None:
    client = Client()

    async def handler(body: Any, raw_request: Any) -> Any:
        await asyncio.sleep(0)
        client.leaves.set()
        return "answer"

    assert await watched(client, handler) == "answer"
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_cancelled_request_stays_cancelled() -> None:
    async def handler(body: Any, raw_request: Any) -> Any:
        await asyncio.sleep(60)

    task = asyncio.ensure_future(watched(Client(), handler))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_stays_the_handlers() -> None:
    async def handler(body: Any, raw_request: Any) -> Any:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        await watched(Client(), handler)


def test_only_what_vllm_has_decorated_is_replaced() -> None:
    async def plain(raw_request: Request) -> None: ...

    theirs: Any = with_cancellation(plain)
    app = FastAPI()
    app.post("/theirs")(theirs)
    app.post("/plain")(plain)
    watch_clients_in_place(app.routes)
    calls = {each.path: each.dependant.call for each in app.routes if isinstance(each, APIRoute)}
    assert calls["/plain"] is plain
    replaced: Any = calls["/theirs"]
    assert replaced is not theirs
    assert replaced.__wrapped__ is plain
