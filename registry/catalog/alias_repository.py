"""SQL of aliases and their history. Never commits."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.visibility import Reader
from registry.bases.scope import serves_version
from registry.catalog.types import AliasState
from registry.database.row_insert import insert_row
from registry.inspection.base_identity import BaseIdentity
from registry.models import SERVABLE, Adapter, Alias, AliasHistory, ServedName, Version
from registry.references import DEFAULT_ALIAS, AdapterReference


class AliasRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    # ---- current state -------------------------------------------------------------

    async def current(self, adapter_id: int, alias: str) -> AliasState | None:
        statement = _states(adapter_id).join(Alias, is_current())
        return await self._one(statement.where(col(Alias.name) == alias))

    async def all_current(self, adapter_id: int) -> list[AliasState]:
        """Current states of all aliases of an adapter, by name."""
        return await self._all(_states(adapter_id).join(Alias, is_current()))

    async def count(self, adapter_id: int) -> int:
        """How many an adapter has."""
        counted = select(func.count()).select_from(Alias)
        statement = counted.where(col(Alias.adapter_id) == adapter_id)
        return (await self._session.execute(statement)).scalar_one()

    async def aliases_of_version(self, version_id: int) -> Sequence[str]:
        """Names of the aliases that a version has any weight in, sorted."""
        statement = (
            select(col(Alias.name))
            .join(AliasHistory, is_current())
            .where(col(AliasHistory.version_id) == version_id)
            .order_by(col(Alias.name))
        )
        return (await self._session.execute(statement)).scalars().all()

    async def servable_references(
        self,
        *,
        after: AdapterReference | None,
        limit: int,
        reader: Reader | None,
        base: BaseIdentity | None,
    ) -> Sequence[Row[str, str, str]]:
        """(adapter, alias, source) of every alias with a version that a server of this base model
        serves; `default` comes first. The source is that of the version with the largest weight.
        An adapter's name that is a reader's own served name means something else to it."""
        name, alias = col(Adapter.name), _alias_order(col(Alias.name))
        source = (
            select(col(Version.source))
            .join(AliasHistory, col(AliasHistory.version_id) == col(Version.id))
            .where(is_current(), col(Version.state).in_(sorted(SERVABLE)), serves_version(base))
            .order_by(col(AliasHistory.weight).desc(), col(Version.number))
            .limit(1)
            .correlate(Alias)
            .scalar_subquery()
        )
        statement = (
            select(name, col(Alias.name), source)
            .join(Alias, col(Alias.adapter_id) == col(Adapter.id))
            .where(source.is_not(None))
            .order_by(name, alias)
            .limit(limit)
        )
        if after is not None:
            last = "" if after.alias is None else after.alias
            statement = statement.where(
                name >= after.adapter, or_(name > after.adapter, alias > last)
            )
        if reader is not None:
            statement = statement.where(reader.can_see(name), ~_means_an_own_name(reader))
        return (await self._session.execute(statement)).all()

    # ---- history --------------------------------------------------------------

    async def at(self, adapter_id: int, alias: str, time: datetime) -> AliasState | None:
        """The state at a point in time."""
        started = col(AliasHistory.valid_from) <= time
        not_ended = or_(col(AliasHistory.valid_to).is_(None), col(AliasHistory.valid_to) > time)
        statement = _states(adapter_id).where(col(AliasHistory.alias) == alias)
        return await self._one(statement.where(started, not_ended))

    async def history(
        self, adapter_id: int, alias: str, *, before: int | None, limit: int
    ) -> list[AliasState]:
        """The states before a revision, newest first."""
        of_alias = [col(AliasHistory.adapter_id) == adapter_id, col(AliasHistory.alias) == alias]
        if before is not None:
            of_alias.append(col(AliasHistory.revision) < before)
        revisions = select(col(AliasHistory.revision)).where(*of_alias).distinct()
        newest = revisions.order_by(col(AliasHistory.revision).desc()).limit(limit).subquery()
        chosen = col(AliasHistory.revision).in_(select(newest.c.revision))
        states = await self._all(_states(adapter_id).where(*of_alias, chosen))
        return states[::-1]

    async def at_revision(self, adapter_id: int, alias: str, revision: int) -> AliasState | None:
        statement = _states(adapter_id).where(col(AliasHistory.alias) == alias)
        return await self._one(statement.where(col(AliasHistory.revision) == revision))

    # ---- changes -------------------------------------------------------------------------

    async def end(self, adapter_id: int, alias: str, at: datetime) -> None:
        """End the current state."""
        statement = update(AliasHistory).where(
            col(AliasHistory.adapter_id) == adapter_id,
            col(AliasHistory.alias) == alias,
            col(AliasHistory.valid_to).is_(None),
        )
        await self._session.execute(statement.values(valid_to=at))

    async def begin(self, alias: Alias, rows: Sequence[AliasHistory]) -> None:
        """Insert a new state and make it the alias's current one."""
        self._session.add_all(rows)
        await self._session.merge(alias)
        await self._session.flush()

    async def add(self, alias: Alias, row: AliasHistory) -> None:
        """Insert an alias that has no history, with its first state."""
        await insert_row(self._session, row)
        await insert_row(self._session, alias)

    async def remove(self, adapter_id: int, alias: str) -> None:
        statement = delete(Alias).where(col(Alias.adapter_id) == adapter_id)
        await self._session.execute(statement.where(col(Alias.name) == alias))

    async def last(self, adapter_id: int, alias: str) -> tuple[int, datetime] | None:
        """Revision and start or end of the newest state, even of a deleted alias."""
        latest = func.max(func.coalesce(col(AliasHistory.valid_to), col(AliasHistory.valid_from)))
        statement = select(func.max(col(AliasHistory.revision)), latest).where(
            col(AliasHistory.adapter_id) == adapter_id, col(AliasHistory.alias) == alias
        )
        found: Row[*tuple[Any, ...]] = (await self._session.execute(statement)).one()
        return None if found[0] is None else (found[0], found[1])

    async def _one(self, statement: "Select[AliasHistory, int]") -> AliasState | None:
        states = await self._all(statement)
        return states[0] if states else None

    async def _all(self, statement: "Select[AliasHistory, int]") -> list[AliasState]:
        rows = (await self._session.execute(statement)).all()
        grouped = groupby(rows, key=lambda row: (row[0].alias, row[0].revision))
        return [_state(list(group)) for _, group in grouped]


def _states(adapter_id: int) -> "Select[AliasHistory, int]":
    """Each row with the number of its version."""
    return (
        select(AliasHistory, col(Version.number))
        .join(Version, col(AliasHistory.version_id) == col(Version.id))
        .where(col(AliasHistory.adapter_id) == adapter_id)
        .order_by(col(AliasHistory.alias), col(AliasHistory.revision), col(Version.number))
    )


def is_current() -> ColumnElement[bool]:
    """Join condition of an alias with the rows of its current state."""
    return and_(
        col(AliasHistory.adapter_id) == col(Alias.adapter_id),
        col(AliasHistory.alias) == col(Alias.name),
        col(AliasHistory.revision) == col(Alias.revision),
    )


def _means_an_own_name(reader: Reader) -> ColumnElement[bool]:
    """Whether the row's reference is also the text of a served name of the reader's tenant."""
    named = and_(col(ServedName.owner) == reader.tenant, col(ServedName.name) == col(Adapter.name))
    is_name_alone = col(Alias.name) == DEFAULT_ALIAS
    return and_(is_name_alone, exists().where(named).correlate(Adapter))


def _alias_order(alias: Any) -> ColumnElement[str]:
    """`default`, then by name."""
    return case((alias == DEFAULT_ALIAS, ""), else_=alias)


def _state(rows: Sequence[Row[AliasHistory, int]]) -> AliasState:
    first: AliasHistory = rows[0][0]
    return AliasState(
        alias=first.alias,
        revision=first.revision,
        weights={number: row.weight for row, number in rows},
        valid_from=first.valid_from,
        valid_to=first.valid_to,
        actor=first.actor,
        reason=first.reason,
    )
