"""Named adapters, as vLLM's clients know them: loaded from a folder under a name, then unloaded."""

from collections.abc import AsyncIterator

from engine.cache.controller import CacheController
from engine.errors import AlreadyLoaded
from engine.resolver import for_engine
from registry.aliases.promotion import Preparation, ServingEngine
from registry.errors import UnknownAdapter, UnknownAlias, VersionUnavailable
from registry.models import SERVABLE, VersionState
from registry.references import DEFAULT_ALIAS, AdapterReference
from registry.search.filters import VersionFilter
from registry.service import RegistryService

_LIVE = VersionFilter(states=tuple(SERVABLE))
_PAGE = 100


class NamedAdapters:
    """Loading registers the next version and makes it the default; unloading retires them all."""

    def __init__(
        self, service: RegistryService, controller: CacheController, engine: ServingEngine
    ) -> None:
        self._service = service
        self._controller = controller
        self._engine = engine

    async def load(
        self, name: str, source: str, *, in_place: bool, actor: str, within: str | None
    ) -> None:
        """Returns once it is in host memory. `in_place` replaces what the name serves now.

        Raises AlreadyLoaded, and what registering, promoting and loading raise.
        """
        if not in_place and await self._is_served(name):
            raise AlreadyLoaded(name)
        registration = await self._service.registrar.register(
            name, source, actor=actor, within=within
        )
        version = registration.published.version
        if version.state == VersionState.RETIRED:
            await self._service.lifecycle.restore(name, version.number, actor=actor)
        await self._promote(name, version.number, actor)
        resolved = await self._service.catalog.resolve(AdapterReference(name))
        await self._controller.load_into_host(for_engine(resolved))

    async def unload(self, name: str, *, actor: str) -> None:
        """Evicts it after its last request. Raises UnknownAdapter if no version is served."""
        numbers = [number async for number in self._served_versions(name)]
        if not numbers:
            raise UnknownAdapter(name)
        for number in numbers:
            resolved = await self._service.catalog.resolve(AdapterReference(name, version=number))
            await self._service.lifecycle.retire(name, number, actor=actor, force=True)
            self._engine.evict_when_idle(resolved)

    async def _promote(self, name: str, number: int, actor: str) -> None:
        weights = {number: 1}
        current = await self._service.alias_catalog.current(name, DEFAULT_ALIAS)
        if current is None or current.weights != weights:
            await self._service.promotion.promote(
                name, DEFAULT_ALIAS, weights, Preparation(), actor=actor
            )

    async def _is_served(self, name: str) -> bool:
        try:
            await self._service.catalog.resolve(AdapterReference(name))
        except (UnknownAdapter, UnknownAlias, VersionUnavailable):
            return False
        return True

    async def _served_versions(self, name: str) -> AsyncIterator[int]:
        token: str | None = None
        while True:
            page = await self._service.catalog.versions_of(
                name, _LIVE, limit=_PAGE, page_token=token
            )
            for published in page.items:
                yield published.version.number
            if (token := page.next_token) is None:
                return
