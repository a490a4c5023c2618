"""Named adapters, as vLLM's clients know them: loaded from a path under a name, then unloaded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from engine.errors import AdapterBusy, AlreadyLoaded, RegistrationPending
from engine.operations.lora_names import LoraName, find_lora_name
from engine.operations.model_paths import hub_url, local_path
from engine.resolver import for_engine
from engine.types import AdapterVersion
from registry.aliases.promotion import Preparation, ServingEngine
from registry.auth.caller import Caller
from registry.catalog.types import Registration, ResolvedVersion
from registry.errors import (
    InvalidSource,
    SourceNotAllowed,
    SourceNotFound,
    UnknownAdapter,
    UnknownAlias,
    VersionUnavailable,
)
from registry.ingest.service import IngestService
from registry.models import SERVABLE, VersionState
from registry.models.job import Job
from registry.references import DEFAULT_ALIAS, AdapterReference
from registry.search.filters import VersionFilter
from registry.service import RegistryService

WAIT_SECONDS = 60.0

_LIVE = VersionFilter(states=tuple(SERVABLE))
_PAGE = 100

LoadIntoHost = Callable[[AdapterVersion], Awaitable[Any]]


class NamedAdapters:
    """Loading registers the next version and makes it the default; unloading retires them all."""

    def __init__(
        self,
        service: RegistryService,
        ingest: IngestService,
        load_into_host: LoadIntoHost,
        engine: ServingEngine,
        *,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """`wait_seconds`: for the job that fetches an adapter, and for the load before this one."""
        self._service = service
        self._ingest = ingest
        self._load_into_host = load_into_host
        self._engine = engine
        self._wait_seconds = wait_seconds
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def find(self, text: str, caller: Caller) -> LoraName:
        """See `find_lora_name`."""
        return await find_lora_name(self._service.names, text, caller)

    async def load(
        self, named: LoraName, path: str, *, in_place: bool, actor: str, within: str | None
    ) -> None:
        """Returns once it is in host memory. `in_place` replaces what the name serves now.

        `path`: a folder below the source roots, any URL that the registry's sources read, or a
        repository's id on the Hub. Two loads of one name run one after the other.

        Raises AdapterBusy, AlreadyLoaded, RegistrationPending, and what registering, promoting and
        loading raise.
        """
        name = named.adapter
        async with self._turn(name):
            if not in_place and await self._is_served(name):
                raise AlreadyLoaded(named.text)
            registration = await self._register(name, path, actor, within)
            if named.served_name is not None:
                reference = AdapterReference(name)
                await self._service.names.set(named.served_name, reference, actor=actor)
            version = registration.published.version
            if version.state == VersionState.RETIRED:
                await self._service.lifecycle.restore(name, version.number, actor=actor)
            await self._promote(name, version.number, actor)
            resolved = await self._service.catalog.resolve(AdapterReference(name))
            await self._load_into_host(for_engine(resolved))

    async def unload(self, named: LoraName, *, actor: str) -> None:
        """Evicts it after its last request. Versions of other base models stay: they are not here.

        Raises UnknownAdapter if no version is served; AdapterBusy.
        """
        name = named.adapter
        async with self._turn(name):
            versions = [version async for version in self._served_versions(name)]
            if not versions:
                raise UnknownAdapter(named.text)
            for version in versions:
                await self._service.lifecycle.retire(name, version.number, actor=actor, force=True)
                self._engine.evict_when_idle(version)

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        """Raises AdapterBusy."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        try:
            async with asyncio.timeout(self._wait_seconds):
                await lock.acquire()
        except TimeoutError:
            raise AdapterBusy(name, self._wait_seconds) from None
        try:
            yield
        finally:
            lock.release()

    async def _register(self, name: str, path: str, actor: str, within: str | None) -> Registration:
        source = local_path(path)
        if not source:
            raise InvalidSource("both 'lora_name' and 'lora_path' must be provided")
        try:
            done = await self._join_or_begin(name, source, actor, within)
        except (SourceNotFound, SourceNotAllowed) as error:
            if (repository := hub_url(source)) is None:
                raise
            done = await self._from_hub(name, repository, actor, within, error)
        if isinstance(done, Job):
            raise RegistrationPending(name, done.number)
        return done

    async def _from_hub(
        self,
        name: str,
        repository: str,
        actor: str,
        within: str | None,
        no_folder: SourceNotFound | SourceNotAllowed,
    ) -> Registration | Job:
        """What looks like a repository may have been meant as a folder."""
        try:
            return await self._join_or_begin(name, repository, actor, within)
        except SourceNotAllowed as refused:
            raise SourceNotFound(f"{no_folder.detail}, and {refused.detail}") from None

    async def _join_or_begin(
        self, name: str, source: str, actor: str, within: str | None
    ) -> Registration | Job:
        """An earlier request for the same may have stopped waiting: its job goes on."""
        joined = await self._ingest.join(name, source, self._wait_seconds)
        if joined is not None:
            return joined
        return await self._ingest.register(
            name, source, actor=actor, request={}, within=within, wait_seconds=self._wait_seconds
        )

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

    async def _served_versions(self, name: str) -> AsyncIterator[ResolvedVersion]:
        token: str | None = None
        while True:
            page = await self._service.catalog.versions_of(
                name, _LIVE, limit=_PAGE, page_token=token
            )
            for published in page.items:
                reference = AdapterReference(name, version=published.version.number)
                found = await self._service.catalog.find(reference)
                if found.is_served:
                    yield found
            if (token := page.next_token) is None:
                return
