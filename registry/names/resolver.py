"""Name resolver: from the text that a client writes as `model` to the reference that it means."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.caller import Caller, current_caller
from registry.catalog.resolution_cache import MAX_ENTRIES, ChangeSource, ResolutionCache
from registry.database.change_counter import SERVED_NAMES
from registry.errors import UnknownAdapter
from registry.names.batch_reader import NameReader, Question
from registry.names.grammar import normalize_served_name, reference_or_none
from registry.references import PLATFORM, AdapterReference, parse_reference


class NameSource(ChangeSource, Protocol):
    """The catalog."""

    def read_session(self) -> AbstractAsyncContextManager[AsyncSession]: ...


class NameResolver:
    """What a text means to the caller of the running request, cached until served names change.

    A tenant's own served names come first, then references, then the platform's served names; to
    the platform, all but its own names are unknown. What the caller may not see is unknown to it,
    and takes as long as what does not exist: neither is cached.
    """

    def __init__(self, catalog: NameSource, *, max_entries: int = MAX_ENTRIES) -> None:
        self._reader = NameReader(catalog.read_session)
        self._meanings = ResolutionCache[AdapterReference](catalog, max_entries=max_entries)

    async def reference(self, text: str) -> AdapterReference:
        """Raises UnknownAdapter; InvalidReference if it has the form of no reference either."""
        caller = current_caller()
        key = caller.tenant, text
        found = await self._meanings.get(SERVED_NAMES, key, lambda: self._look_up(caller, text))
        caller.check_sees(found.adapter)
        return found

    async def _look_up(self, caller: Caller, text: str) -> AdapterReference:
        direct, name = reference_or_none(text), normalize_served_name(text)
        if direct is not None and not caller.sees(direct.adapter):
            direct = None
        if name is None and direct is None:
            raise _refusal(text)
        adapter = None if direct is None else direct.adapter
        answer = await self._reader.read(Question(caller.tenant or PLATFORM, name, adapter))
        if answer.own is not None:
            return answer.own
        if direct is not None and answer.has_adapter:
            return direct
        if answer.platforms is not None and caller.sees(answer.platforms.adapter):
            return answer.platforms
        raise _refusal(text)


def _refusal(text: str) -> UnknownAdapter:
    """Raises InvalidReference if it has not the form of a reference either."""
    return UnknownAdapter(parse_reference(text).adapter)
