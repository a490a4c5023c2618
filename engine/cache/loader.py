"""One load, from disk until it is staged: verified files, and another try after a bad moment."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from engine.errors import AdapterLoadFailed, LoadFailure
from engine.ports import Backend, Loaded
from engine.types import AdapterVersion

logger = logging.getLogger(__name__)


class Files(Protocol):
    """The registry's store, as far as a load needs it."""

    async def verify(self, version: AdapterVersion) -> AdapterVersion:
        """The version with the path where they are to be read, which are what was registered.

        Raises AdapterLoadFailed with LoadFailure.FILES or IO.
        """


class Loader:
    """Tries again where the disk or the memory may recover; `pauses` are the seconds between."""

    def __init__(
        self,
        backend: Backend,
        files: Files,
        *,
        timeout_seconds: float = 60.0,
        pauses: Sequence[float] = (0.1, 0.5, 2.0),
    ) -> None:
        self._backend = backend
        self._files = files
        self._timeout_seconds = timeout_seconds
        self._pauses = pauses

    async def load(self, version: AdapterVersion) -> Loaded:
        """Raises AdapterLoadFailed or EngineUnavailable; then nothing is staged."""
        for pause in self._pauses:
            try:
                return await self._try(version)
            except AdapterLoadFailed as error:
                if not error.failure.may_pass:
                    raise
                logger.warning("%s; again in %g s", error.detail, pause)
            await asyncio.sleep(pause)
        return await self._try(version)

    async def _try(self, version: AdapterVersion) -> Loaded:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._backend.load(await self._files.verify(version))
        except TimeoutError:
            reason = f"no end after {self._timeout_seconds:g} s"
            raise AdapterLoadFailed(version.reference, reason, LoadFailure.TIMEOUT) from None
