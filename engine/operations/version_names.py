"""Version names: the aliases and served names of what is in slots, for routers that match names."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from engine.types import VersionId
from registry.catalog.catalog import Catalog
from registry.errors import DatabaseUnavailable
from registry.names.repository import NameRepository

logger = logging.getLogger(__name__)


class VersionNames:
    """Reads them once a second at most, and only after a change of the registry or the slots."""

    def __init__(
        self,
        catalog: Catalog,
        held: Callable[[], Collection[VersionId]],
        *,
        every_seconds: float = 1.0,
    ) -> None:
        """`held`: those in either tier, or on their way into one."""
        self._catalog = catalog
        self._held = held
        self._every_seconds = every_seconds
        self._names: Mapping[int, Sequence[str]] = {}
        self._read_at: tuple[int, frozenset[int]] = 0, frozenset()

    def of(self, version: VersionId) -> Sequence[str]:
        return self._names.get(version, ())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.refresh()
            except DatabaseUnavailable:
                logger.debug("the names in slots stay what they were: the database is away")
            await asyncio.sleep(self._every_seconds)

    async def refresh(self) -> None:
        """Raises DatabaseUnavailable."""
        await self._catalog.poll_changes()  # another server's, should no request ask for them
        ids = frozenset(self._held())
        state = self._catalog.change_count, ids
        if state == self._read_at:
            return
        async with self._catalog.read_session() as session:
            self._names = await NameRepository(session).of_versions(ids)
        self._read_at = state
