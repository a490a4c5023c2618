"""Resolver: from a reference or a served name to the version that it means now, cached."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.types import AdapterVersion, VersionId
from registry.catalog.catalog import Catalog
from registry.catalog.resolution_cache import MAX_ENTRIES, ResolutionCache
from registry.catalog.types import Resolution, ResolvedVersion
from registry.errors import OtherBaseModel, RegistryError, VersionUnavailable
from registry.names.resolver import Found, NameResolver
from registry.references import parse_reference


@dataclass(frozen=True, slots=True)
class _Answer:
    """The version that a reference means. `split`: unless it is always the same one."""

    main: AdapterVersion
    split: Resolution | None


class RegistryResolver:
    """Resolves each reference and served name once in the registry until what it means changes.

    An adapter that the caller of the running request may not see is unknown to it.

    The next request sees a moved alias. If another server on the same database moved it, requests
    see that within about a second.
    """

    def __init__(self, catalog: Catalog, *, max_entries: int = MAX_ENTRIES) -> None:
        self._catalog = catalog
        self._names = NameResolver(
            catalog, read_versions=catalog.read_versions, max_entries=max_entries
        )
        self._answers = ResolutionCache[_Answer](catalog, max_entries=max_entries)

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        """For this user, which is read only if the alias is split; without one its main version.

        Raises the registry's errors: a bad reference, an unknown adapter, not servable, of another
        base model.
        """
        found = await self._names.found(text)
        reference = found.reference
        answer = await self._answers.get(reference.adapter, reference, lambda: self._look_up(found))
        if user is None or answer.split is None:
            return answer.main
        return for_engine(answer.split.for_user(user()))

    async def _look_up(self, found: Found) -> "_Answer":
        resolution = await self._resolution(found)
        split = resolution if len(resolution.versions) > 1 else None
        return _Answer(for_engine(resolution.main), split)

    async def _resolution(self, found: Found) -> Resolution:
        """As it was read with its name, unless the adapter was changed since."""
        is_new = self._catalog.changes.last_change(found.reference.adapter) <= found.read_at
        if found.resolution is None or not is_new:
            return await self._catalog.resolution(found.reference)
        if isinstance(found.resolution, RegistryError):
            raise found.resolution
        return await self._catalog.servable(found.resolution)

    async def find(self, text: str) -> AdapterVersion:
        """The same for operators, in any state: a retired version may still be in memory.

        Raises the registry's errors for what does not exist.
        """
        try:
            return await self.resolve(text)
        except (VersionUnavailable, OtherBaseModel):
            return for_engine(await self._catalog.find(await self._names.reference(text)))


async def check_base(catalog: Catalog, text: str) -> None:
    """In any state. Raises OtherBaseModel, and the registry's errors for what does not exist."""
    found = await catalog.find(parse_reference(text))
    if not found.is_served:
        raise await catalog.other_base(found)


def for_engine(resolved: ResolvedVersion) -> AdapterVersion:
    """The registry's version as the engine's type."""
    deprecated_at = resolved.deprecated_at
    return AdapterVersion(
        id=VersionId(resolved.version_id),
        adapter=resolved.adapter,
        number=resolved.number,
        digest=resolved.digest,
        path=str(resolved.path),
        rank=resolved.rank,
        size_bytes=resolved.size_bytes,
        deprecated_at=None if deprecated_at is None else int(deprecated_at.timestamp()),
        deprecation_reason=resolved.state_reason if deprecated_at else None,
        invocation_tokens=resolved.invocation_tokens,
        chat_template=resolved.chat_template,
        sampling_defaults=resolved.sampling_defaults,
    )
