"""Quarantine: has the registry examine versions whose files look damaged, and nothing else.

The rule is `registry.lifecycle.condemnation`. All other failures of a load are this engine's.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from engine.errors import AdapterLoadFailed
from engine.events import CacheEvent, LoadFailed
from engine.types import AdapterVersion, LoadFailure, VersionId

logger = logging.getLogger(__name__)

MOST_A_MINUTE = 10

Condemn = Callable[[AdapterVersion], Awaitable[bool]]
"""Quarantines a version in the registry if its files are proven to be damaged."""


class Quarantine:
    """An observer of failed loads.

    At most `MOST_A_MINUTE` versions are quarantined: when more look damaged, it is the store, and
    people should look. Their requests are refused, as long as their loads fail.
    """

    observed = frozenset({LoadFailed})

    def __init__(self, condemn: Condemn, clock: Callable[[], float] = time.monotonic) -> None:
        self._condemn = condemn
        self._clock = clock
        self._examined: dict[VersionId, asyncio.Task[None]] = {}
        self._condemned_at: deque[float] = deque(maxlen=MOST_A_MINUTE)

    def on_event(self, event: CacheEvent) -> None:
        match event:
            case LoadFailed(version, _, AdapterLoadFailed(failure=LoadFailure.FILES)):
                if version.id not in self._examined:
                    self._examined[version.id] = asyncio.create_task(self._examine(version))

    async def _examine(self, version: AdapterVersion) -> None:
        try:
            if self._are_too_many():
                logger.error("%s looks damaged, as many others: see the store", version.reference)
            elif await self._condemn(version):
                self._condemned_at.append(self._clock())
                logger.warning("%s is quarantined: its files are damaged", version.reference)
        except Exception:  # the next request for it fails again, and reports again
            logger.exception("%s could not be quarantined", version.reference)
        finally:
            del self._examined[version.id]

    def _are_too_many(self) -> bool:
        now, times = self._clock(), self._condemned_at
        running = len(self._examined) - 1
        return running + sum(now - at < 60 for at in times) >= MOST_A_MINUTE
