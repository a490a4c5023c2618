"""What can be asked of aliases, now and in the past; nothing here changes them."""

from datetime import datetime

from registry.alias_repository import AliasRepository
from registry.db import Database
from registry.errors import UnknownAlias
from registry.models import row_id
from registry.names import check_name
from registry.pages import Page, number_of, page_of
from registry.repository import RegistryRepository, known_adapter
from registry.values import AliasState


class AliasCatalog:
    """Each call is one short session."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, name: str) -> list[AliasState]:
        """All aliases of an adapter by name. Raises UnknownAdapter."""
        async with self._database.reading() as session:
            adapter = await known_adapter(RegistryRepository(session), name)
            return await AliasRepository(session).all_current(row_id(adapter))

    async def state(self, name: str, alias: str, at: datetime | None = None) -> AliasState:
        """Where it points, or pointed at a time. Raises UnknownAdapter, UnknownAlias."""
        check_name(alias, what="alias")
        async with self._database.reading() as session:
            adapter_id = row_id(await known_adapter(RegistryRepository(session), name))
            aliases = AliasRepository(session)
            if at is None:
                state = await aliases.current(adapter_id, alias)
            else:
                state = await aliases.at(adapter_id, alias, at)
        if state is None:
            raise UnknownAlias(name, alias, at)
        return state

    async def history(
        self, name: str, alias: str, *, limit: int, page_token: str | None = None
    ) -> Page[AliasState]:
        """One page of its states, the newest first; also of a deleted alias.

        Raises UnknownAdapter, UnknownAlias, InvalidPageToken.
        """
        check_name(alias, what="alias")
        before = number_of(page_token) or None
        async with self._database.reading() as session:
            adapter_id = row_id(await known_adapter(RegistryRepository(session), name))
            states = await AliasRepository(session).history(
                adapter_id, alias, before=before, limit=limit + 1
            )
        if not states and before is None:
            raise UnknownAlias(name, alias)
        return page_of(states, limit, lambda state: state.revision)
