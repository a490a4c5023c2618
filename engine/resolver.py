"""From a reference to the version it means now: the registry's answer, while it holds."""

from cachetools import LRUCache

from engine.types import AdapterVersion, VersionId
from registry.catalog import Catalog
from registry.names import parse_reference
from registry.values import ResolvedVersion


class RegistryResolver:
    """Asks the registry once per reference until anything in the registry changes.

    The registry counts its changes (`generation`), so a moved alias is seen by the next request.
    """

    def __init__(self, catalog: Catalog, *, max_entries: int = 10_000) -> None:
        self._catalog = catalog
        self._answers: LRUCache[tuple[int, str], AdapterVersion] = LRUCache(max_entries)

    async def resolve(self, text: str) -> AdapterVersion:
        """Raises the registry's errors: a bad reference, an unknown adapter, not servable."""
        key = (self._catalog.generation, text)
        if (known := self._answers.get(key)) is not None:
            return known
        version = _for_engine(await self._catalog.resolve(parse_reference(text)))
        self._answers[key] = version
        return version


def _for_engine(resolved: ResolvedVersion) -> AdapterVersion:
    return AdapterVersion(
        id=VersionId(resolved.version_id),
        adapter=resolved.adapter,
        number=resolved.number,
        digest=resolved.digest,
        path=str(resolved.path),
        rank=resolved.rank,
        size_bytes=resolved.size_bytes,
    )
