"""From a reference to the version it means now: the registry's answer, while it holds."""

from cachetools import LRUCache

from engine.types import AdapterVersion, VersionId
from registry.names import parse_reference
from registry.service import RegistryService, ResolvedVersion


class RegistryResolver:
    """Asks the registry once per reference until anything in the registry changes.

    The registry counts its changes (`generation`), so a moved alias is seen by the next request.
    """

    def __init__(self, service: RegistryService, *, max_entries: int = 10_000) -> None:
        self._service = service
        self._answers: LRUCache[tuple[int, str], AdapterVersion] = LRUCache(max_entries)

    async def resolve(self, text: str) -> AdapterVersion:
        """Raises the registry's errors: a bad reference, an unknown adapter, not servable."""
        key = (self._service.generation, text)
        if (known := self._answers.get(key)) is not None:
            return known
        version = _for_engine(await self._service.resolve(parse_reference(text)))
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
