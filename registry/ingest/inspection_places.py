"""Places for inspections that register nothing: each copies and reads a whole adapter."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from registry.errors import TooManyInspections
from registry.places import Places

MAX_INSPECTIONS = 4
"""At a time. An adapter of gigabytes keeps a core for a while, and the threads that all share."""

WAIT_SECONDS = 60.0


class InspectionPlaces:
    """No tenant, nor a folder of the platform's, can take all: its disk may hang."""

    def __init__(self) -> None:
        self._places = Places(MAX_INSPECTIONS)
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, owner: str) -> AsyncIterator[None]:
        """Hold a place during the block, once there is one. Raises TooManyInspections."""
        try:
            async with asyncio.timeout(WAIT_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._places.has_place(owner))
                self._places.take(owner)
        except TimeoutError:
            raise TooManyInspections(MAX_INSPECTIONS) from None
        try:
            yield
        finally:
            self._places.give_back(owner)
            await self._wake()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()
