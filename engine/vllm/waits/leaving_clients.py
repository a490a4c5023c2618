"""Leaving clients: a route's handler ends when its client leaves, without a task of its own.

vLLM's decorator (0.32) runs the handler in a task beside the one that looks for the client, and
waits for either: three turns of the event loop for each request, before its first token.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi.routing import APIRoute

_DECORATED = "with_cancellation.<locals>.wrapper"

Handler = Callable[..., Awaitable[Any]]
Listen = Callable[[Any], Awaitable[None]]


def watch_clients_in_place(routes: Iterable[Any]) -> None:
    """For the routes that have vLLM's decorator."""
    for route in routes:
        if not isinstance(route, APIRoute):
            continue
        decorated: Any = route.dependant.call
        code = getattr(decorated, "__code__", None)
        if code is not None and code.co_qualname == _DECORATED:
            listen = decorated.__globals__["listen_for_disconnect"]
            route.dependant.call = end_if_client_leaves(decorated.__wrapped__, listen)


def end_if_client_leaves(handler: Handler, listen: Listen) -> Handler:
    """The handler, cancelled when `listen` returns; then it returns None, as vLLM's does."""

    @functools.wraps(handler)
    async def watched(*args: Any, **options: Any) -> Any:
        request = args[1] if len(args) > 1 else options["raw_request"]
        watch = _Watch(listen(request))
        try:
            answer = await handler(*args, **options)
        except asyncio.CancelledError:
            if not watch.has_left:
                raise
            answer = None
        finally:
            watch.end()
        return None if watch.has_left else answer

    return watched


class _Watch:
    """Cancels the task that makes it, if the client leaves before `end`."""

    def __init__(self, listening: Awaitable[None]) -> None:
        self.has_left = False
        self._is_over = False
        self._task = asyncio.current_task()
        self._listener = asyncio.ensure_future(listening)
        self._listener.add_done_callback(self._on_left)

    def _on_left(self, listener: "asyncio.Future[None]") -> None:
        if listener.cancelled():
            return
        listener.exception()  # a connection that broke: its client has left too
        if not self._is_over and self._task is not None:
            self.has_left = self._task.cancel()

    def end(self) -> None:
        """What cancels the task from here on is not the client."""
        self._is_over = True
        self._listener.cancel()
        if self.has_left and self._task is not None:
            self._task.uncancel()
        self._task = None  # it refers back to this: no work for the collector
