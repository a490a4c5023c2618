"""Resolver for `GET /resolve`: the referenced version as ready-made JSON."""

from dataclasses import dataclass

from registry.api.serializers import sees_parent, whole_version_read
from registry.auth.caller import current_caller
from registry.catalog.catalog import Catalog
from registry.catalog.resolution_cache import ResolutionCache
from registry.catalog.types import Resolution
from registry.inspection.base_identity import BaseIdentity
from registry.references import AdapterReference


@dataclass(frozen=True, slots=True)
class _VersionJson:
    """JSON of a version, with and without its parent, which may be hidden from the caller."""

    parent: str | None
    whole: bytes
    without_parent: bytes


class JsonResolver:
    """Queries the registry once per reference and version until their adapter changes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._resolutions = ResolutionCache[Resolution](catalog)
        self._versions = ResolutionCache[_VersionJson](catalog)

    async def resolve(
        self, reference: AdapterReference, user: str | None, base: BaseIdentity | None = None
    ) -> bytes:
        """JSON of a `VersionRead`. `base`: of the engine that will serve it, unless it is ours.

        Raises what `Catalog.resolution` raises.
        """
        name = reference.adapter
        catalog = self._catalog if base is None else self._catalog.for_base(base)
        resolution = await self._resolutions.get(
            name, (reference, base), lambda: catalog.resolution(reference)
        )
        resolved = resolution.main if user is None else resolution.for_user(user)
        number = resolved.number
        shown = await self._versions.get(
            name, (name, number), lambda: self._serialize(name, number)
        )
        sees = sees_parent(current_caller(), shown.parent)
        return shown.whole if sees else shown.without_parent

    async def _serialize(self, name: str, number: int) -> _VersionJson:
        """Serialized once for all callers: grants change without the version."""
        read = whole_version_read(await self._catalog.version(name, number))
        whole = read.model_dump_json().encode()
        if read.parent is None:
            return _VersionJson(None, whole, whole)
        alone = read.model_copy(update={"parent": None})
        return _VersionJson(read.parent, whole, alone.model_dump_json().encode())
