"""Quarantine: takes versions that can't be loaded out of service, and no request waits again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from engine.errors import AdapterLoadFailed
from engine.events import CacheEvent, LoadFailed
from engine.types import AdapterVersion

logger = logging.getLogger(__name__)

Condemn = Callable[[AdapterVersion, str], Awaitable[None]]
"""Quarantines a version in the registry, with a reason."""


class Quarantine:
    """An observer of failed loads. Transient errors (of a disk, say) don't condemn a version."""

    def __init__(self, condemn: Condemn) -> None:
        self._condemn = condemn
        self._tasks: set[asyncio.Task[None]] = set()

    def on_event(self, event: CacheEvent) -> None:
        if not isinstance(event, LoadFailed):
            return
        error = event.error
        if isinstance(error, AdapterLoadFailed) and error.failure.is_permanent:
            task = asyncio.create_task(self._report(event.version, error.detail))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _report(self, version: AdapterVersion, reason: str) -> None:
        try:
            await self._condemn(version, reason)
        except Exception:  # the next request for it fails again, and reports again
            logger.exception("%s could not be quarantined", version.reference)
        else:
            logger.warning("%s is quarantined: %s", version.reference, reason)
