"""Name resolver: from the text that a client writes as `model` to the reference that it means."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.caller import Caller, current_caller
from registry.catalog.resolution_cache import MAX_ENTRIES, ChangeSource, ResolutionCache
from registry.catalog.types import Resolution
from registry.database.change_counter import SERVED_NAMES
from registry.errors import RegistryError, UnknownAdapter
from registry.names.batch_reader import Answer, NameReader, Question, ReadVersions
from registry.names.grammar import normalize_served_name, reference_or_none
from registry.references import PLATFORM, AdapterReference, parse_reference


class NameSource(ChangeSource, Protocol):
    """The catalog."""

    def read_session(self) -> AbstractAsyncContextManager[AsyncSession]: ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a text means, and the versions as they were after so many changes, or why none."""

    reference: AdapterReference
    resolution: Resolution | RegistryError | None = None
    read_at: int = 0


class NameResolver:
    """What a text means to the caller of the running request, cached until served names change.

    A tenant's own served names come first, then references, then the platform's served names; to
    the platform, all but its own names are unknown. What the caller may not see is unknown to it,
    and takes as long as what does not exist: neither is cached.
    """

    def __init__(
        self,
        catalog: NameSource,
        *,
        read_versions: ReadVersions | None = None,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        """`read_versions`: what `found` reads together with a meaning."""
        self._reader = NameReader(catalog.read_session, read_versions)
        self._catalog = catalog
        self._meanings = ResolutionCache[AdapterReference](catalog, max_entries=max_entries)

    async def reference(self, text: str) -> AdapterReference:
        """Raises UnknownAdapter; InvalidReference if it has the form of no reference either."""
        return (await self.found(text)).reference

    async def found(self, text: str) -> "Found":
        """The same, with the versions, if the meaning was read only now."""
        caller = current_caller()
        read: list[Found] = []

        async def look_up() -> AdapterReference:
            read_at = self._catalog.changes.count
            answer = await self._look_up(caller, text)
            read.append(Found(answer.reference, answer.resolution, read_at))
            return answer.reference

        reference = await self._meanings.get(SERVED_NAMES, (caller.tenant, text), look_up)
        caller.check_sees(reference.adapter)
        return read[0] if read else Found(reference)

    async def _look_up(self, caller: Caller, text: str) -> Answer:
        direct, name = reference_or_none(text), normalize_served_name(text)
        if direct is not None and not caller.sees(direct.adapter):
            direct = None
        if name is None and direct is None:
            raise _refusal(text)
        owner = caller.tenant or PLATFORM
        answer = await self._reader.read(Question(owner, caller.granted, name, direct))
        if answer is None:
            raise _refusal(text)
        return answer


def _refusal(text: str) -> UnknownAdapter:
    """Raises InvalidReference if it has not the form of a reference either."""
    return UnknownAdapter(parse_reference(text).adapter)
