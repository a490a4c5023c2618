"""From a reference to the version that it means, as clients are shown it: ready to be sent."""

from registry.catalog import Catalog
from registry.kept_answers import KeptAnswers
from registry.names import AdapterReference
from registry.values import Resolution
from registry.views import version_read


class ShownResolver:
    """Asks the registry once per reference and version until their adapter changes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._resolutions = KeptAnswers[Resolution](catalog)
        self._versions = KeptAnswers[bytes](catalog)

    async def resolve(self, reference: AdapterReference, user: str | None) -> bytes:
        """JSON of a `VersionRead`. Raises what `Catalog.resolution` raises."""
        name = reference.adapter
        resolution = await self._resolutions.get(
            name, reference, lambda: self._catalog.resolution(reference)
        )
        resolved = resolution.main if user is None else resolution.for_user(user)
        number = resolved.number
        return await self._versions.get(name, (name, number), lambda: self._shown(name, number))

    async def _shown(self, name: str, number: int) -> bytes:
        return version_read(await self._catalog.version(name, number)).model_dump_json().encode()
