"""Store readiness: whether the store answers now, asked often and never waited for long."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path

from registry.errors import RegistryError, StoreUnavailable
from registry.storage.availability import StoreAway, StoreEmpty, check_answers

TIMEOUT_SECONDS = 2.0
KEEP_SECONDS = 2.0  # an answer

IsExpected = Callable[[], Awaitable[bool]]
"""Whether the store should hold anything. Raises RegistryError."""


class StoreReadiness:
    """One look at a time, in a thread of its own: on a disk that hangs it may never return."""

    def __init__(
        self,
        adapters: Path,
        is_expected: IsExpected,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._adapters = adapters
        self._is_expected = is_expected
        self._timeout_seconds = timeout_seconds
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._asking = asyncio.Lock()
        self._look: Future[StoreAway | None] | None = None
        self._looked_at = -keep_seconds
        self._reason: str | None = None

    async def check(self) -> None:
        """Raises StoreUnavailable, with the reason."""
        async with self._asking:
            if self._clock() - self._looked_at >= self._keep_seconds:
                self._reason = await self._ask()
                self._looked_at = self._clock()
            if self._reason is not None:
                raise StoreUnavailable(self._reason)

    async def _ask(self) -> str | None:
        if self._look is None:
            self._look = _start_look(self._adapters)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                away = await asyncio.shield(asyncio.wrap_future(self._look))
        except TimeoutError:
            return f"the store does not answer within {self._timeout_seconds:g} s"
        self._look = None
        if away is None or (isinstance(away, StoreEmpty) and not await self._holds_versions()):
            return None
        return away.strerror

    async def _holds_versions(self) -> bool:
        try:
            return await self._is_expected()
        except RegistryError:  # readiness asks the database as well
            return False


def _start_look(adapters: Path) -> Future[StoreAway | None]:
    future: Future[StoreAway | None] = Future()
    thread = threading.Thread(target=_look, args=(adapters, future), daemon=True)
    thread.name = "adaptry-store-check"
    thread.start()
    return future


def _look(adapters: Path, future: Future[StoreAway | None]) -> None:
    try:
        check_answers(adapters)
    except StoreAway as away:
        future.set_result(away)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(None)
