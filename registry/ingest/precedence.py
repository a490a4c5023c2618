"""Precedence of requests over registrations: these rest while a first token is awaited."""

import asyncio
import time
from typing import Protocol

REST_SECONDS = 0.020
"""Of an upload while it is received, and again of its job."""

_LOOK_SECONDS = 0.002


class Requests(Protocol):
    """Those of others that this process answers."""

    def has_any(self) -> bool: ...
    def is_first_token_awaited(self) -> bool: ...

    async def until_first_tokens(self, within_seconds: float) -> None:
        """Until none waits for its first token, or for so long."""


class NoRequests:
    """Null requests, without an engine."""

    def has_any(self) -> bool:
        return False

    def is_first_token_awaited(self) -> bool:
        return False

    async def until_first_tokens(self, within_seconds: float) -> None:
        return


NO_REQUESTS = NoRequests()


class Rest:
    """Of one job or upload, between its steps and the statements of its transaction.

    Its threads and the event loop then leave the cores to the engine and to the request's way. For
    that time another change of a SQLite database may wait.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._left_seconds = REST_SECONDS

    async def take(self) -> None:
        """Of a transaction that runs at one go in its connection's thread: in that thread."""
        if not _is_in_loop():
            self.take_in_thread()
        elif self._is_due():
            began = time.monotonic()
            await self._requests.until_first_tokens(self._left_seconds)
            self._left_seconds -= time.monotonic() - began

    def take_in_thread(self) -> None:
        """The same for several steps in one thread."""
        if not self._is_due():
            return
        began = time.monotonic()
        latest = began + self._left_seconds
        while time.monotonic() < latest and self._requests.is_first_token_awaited():
            time.sleep(_LOOK_SECONDS)
        self._left_seconds -= time.monotonic() - began

    def _is_due(self) -> bool:
        return self._left_seconds > 0 and self._requests.is_first_token_awaited()


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


NO_REST = Rest(NO_REQUESTS)
