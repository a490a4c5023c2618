"""Precedence of requests over registrations: these rest while a first token is awaited."""

import asyncio
import time
from typing import Protocol

REST_SECONDS = 0.015
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
        if self._left_seconds <= 0 or not self._requests.is_first_token_awaited():
            return
        began = time.monotonic()
        if _is_in_loop():
            await self._requests.until_first_tokens(self._left_seconds)
        else:
            self._sleep_until(began + self._left_seconds)
        self._left_seconds -= time.monotonic() - began

    def _sleep_until(self, latest: float) -> None:
        """In the thread of a database connection, where a transaction runs at one go."""
        while time.monotonic() < latest and self._requests.is_first_token_awaited():
            time.sleep(_LOOK_SECONDS)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


NO_REST = Rest(NO_REQUESTS)
