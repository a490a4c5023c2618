"""Content digests of versions that were registered before there were such digests."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from registry.catalog.repository import AnyRow, RegistryRepository
from registry.database.engine import Database
from registry.errors import InvalidAdapter
from registry.inspection.content_digest import content_digest
from registry.inspection.tensor_reader import Truncated
from registry.sources.disks.store_threads import WORK


class MissingDigests(Exception):
    """Versions without a digest may have the same content: `rows` has their ids and files."""

    def __init__(self, rows: Sequence[AnyRow]) -> None:
        super().__init__()
        self.rows = rows


class ContentDigests:
    """Computes missing digests from the store, once for each version that may be the same."""

    def __init__(self, database: Database, path_of: Callable[[str], Path]) -> None:
        self._database = database
        self._path_of = path_of

    async def fill(self, missing: Sequence[AnyRow]) -> None:
        """Raises DatabaseUnavailable."""
        digests = await WORK.run(partial(self._compute, missing))
        async with self._database.transaction(for_catalog=False) as session:
            await RegistryRepository(session).set_content_digests(digests)

    def _compute(self, rows: Iterable[AnyRow]) -> dict[int, str]:
        found: dict[int, str] = {}
        for version_id, digest in rows:
            try:
                found[version_id] = content_digest(self._path_of(digest))
            except (OSError, ValueError, InvalidAdapter, Truncated):
                continue  # its files are missing or damaged: it is equal to nothing
        return found
