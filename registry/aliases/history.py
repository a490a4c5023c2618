"""Read-only queries on aliases, now and in the past."""

from datetime import datetime

from registry.catalog.alias_repository import AliasRepository
from registry.catalog.repository import RegistryRepository, get_adapter
from registry.catalog.types import AliasState
from registry.database.engine import Database
from registry.database.pagination import Page, number_of, page_of
from registry.errors import NothingToRollBack, UnknownAlias, UnknownRevision
from registry.models import row_id
from registry.references import check_alias

_PAGE = 100


class AliasCatalog:
    """Read-only; each call is one short session."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, name: str) -> list[AliasState]:
        """All aliases of an adapter by name. Raises UnknownAdapter."""
        async with self._database.read_session() as session:
            adapter = await get_adapter(RegistryRepository(session), name)
            return await AliasRepository(session).all_current(row_id(adapter))

    async def state(self, name: str, alias: str, at: datetime | None = None) -> AliasState:
        """The state now or at a time. Raises UnknownAdapter, UnknownAlias."""
        check_alias(alias)
        async with self._database.read_session() as session:
            adapter_id = row_id(await get_adapter(RegistryRepository(session), name))
            aliases = AliasRepository(session)
            if at is None:
                state = await aliases.current(adapter_id, alias)
            else:
                state = await aliases.at(adapter_id, alias, at)
        if state is None:
            raise UnknownAlias(name, alias, at)
        return state

    async def current(self, name: str, alias: str) -> AliasState | None:
        """The current state; None if there is no such alias. Raises UnknownAdapter."""
        try:
            return await self.state(name, alias)
        except UnknownAlias:
            return None

    async def rollback_target(
        self, name: str, alias: str, revision: int | None = None, time: datetime | None = None
    ) -> AliasState:
        """The target of a rollback: a revision, the state at a time, or the previous state.

        Raises UnknownAdapter, UnknownAlias if it never existed, UnknownRevision,
        NothingToRollBack.
        """
        check_alias(alias)
        async with self._database.read_session() as session:
            adapter_id = row_id(await get_adapter(RegistryRepository(session), name))
            aliases = AliasRepository(session)
            if revision is not None:
                state = await aliases.at_revision(adapter_id, alias, revision)
            elif time is not None:
                state = await aliases.at(adapter_id, alias, time)
            else:
                return await _before(aliases, adapter_id, name, alias)
        if state is None:
            what = f"at {time.isoformat()}" if time else str(revision)
            raise UnknownRevision(f"{name}@{alias}", what)
        return state

    async def history(
        self, name: str, alias: str, *, limit: int, page_token: str | None = None
    ) -> Page[AliasState]:
        """One page of its states, newest first; also for a deleted alias.

        Raises UnknownAdapter, UnknownAlias, InvalidPageToken.
        """
        check_alias(alias)
        before = number_of(page_token) or None
        async with self._database.read_session() as session:
            adapter_id = row_id(await get_adapter(RegistryRepository(session), name))
            states = await AliasRepository(session).history(
                adapter_id, alias, before=before, limit=limit + 1
            )
        if not states and before is None:
            raise UnknownAlias(name, alias)
        return page_of(states, limit, lambda state: state.revision)


async def _before(aliases: AliasRepository, adapter_id: int, name: str, alias: str) -> AliasState:
    """The newest state that differs from the current one; for a deleted alias, its last."""
    current = await aliases.current(adapter_id, alias)
    before = current.revision if current else None
    while states := await aliases.history(adapter_id, alias, before=before, limit=_PAGE):
        for state in states:
            if current is None or state.weights != current.weights:
                return state
        before = states[-1].revision
    if current is None:
        raise UnknownAlias(name, alias)
    raise NothingToRollBack(f"{name}@{alias}")
