"""Loader: one load from verified files to the staged adapter, with retries on transient errors."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.errors import AdapterLoadFailed
from engine.ports import Backend, Loaded
from engine.types import AdapterVersion, LoadFailure

logger = logging.getLogger(__name__)

SLOW_SECONDS = 5.0


def _nothing() -> None:
    pass


class AdapterFiles(Protocol):
    """The registry's store, as far as a load needs it."""

    async def verify(self, version: AdapterVersion) -> AdapterVersion:
        """The version with the path to read, whose files are those that were registered.

        Raises AdapterLoadFailed.
        """


class Loader:
    """Retries while the disk or the memory may recover; `pauses`: the seconds between attempts.

    A load that takes `slow_seconds` is reported: its disk may hang, while others answer.
    """

    def __init__(
        self,
        backend: Backend,
        files: AdapterFiles,
        *,
        timeout_seconds: float = 60.0,
        slow_seconds: float = SLOW_SECONDS,
        pauses: Sequence[float] = (0.1, 0.5, 2.0),
    ) -> None:
        self._backend = backend
        self._files = files
        self._timeout_seconds = timeout_seconds
        self._slow_seconds = slow_seconds
        self._pauses = pauses

    async def load(self, version: AdapterVersion, on_slow: Callable[[], None] = _nothing) -> Loaded:
        """Raises AdapterLoadFailed or EngineUnavailable; then nothing is staged."""
        timer = asyncio.get_running_loop().call_later(self._slow_seconds, on_slow)
        try:
            return await self._load(version)
        finally:
            timer.cancel()

    async def _load(self, version: AdapterVersion) -> Loaded:
        for pause in self._pauses:
            try:
                return await self._attempt(version)
            except AdapterLoadFailed as error:
                if not error.failure.is_transient:
                    raise
                logger.warning("%s; retrying in %g s", error.detail, pause)
            await asyncio.sleep(pause)
        return await self._attempt(version)

    async def _attempt(self, version: AdapterVersion) -> Loaded:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._backend.load(await self._files.verify(version))
        except TimeoutError:
            reason = f"timed out after {self._timeout_seconds:g} s"
            raise AdapterLoadFailed(version.reference, reason, LoadFailure.TIMEOUT) from None
