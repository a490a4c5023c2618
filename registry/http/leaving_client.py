"""Leaving client: the work for a request ends when its client has left."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

Result = TypeVar("Result")


async def until_left(receive: Receive) -> None:
    """Of a request whose body has been read."""
    while (await receive())["type"] != "http.disconnect":
        continue


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of `work`; None if the client has left, and the work has ended by that.

    Without it servers would generate without a reader: uvicorn drops what is sent after that.
    Raises what `work` raises.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(until_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        await end_tasks(working, leaving)


async def end_tasks(*tasks: "asyncio.Task[Any]") -> None:
    """Returns when they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
