"""Row insert past the ORM, for what is written often: a flush of one row takes longer."""

from functools import cache
from typing import Any, cast

from sqlalchemy import CursorResult, Insert, insert, inspect
from sqlalchemy.ext.asyncio import AsyncSession

from registry.models.base import Table, table_of

_ID = "id"


async def insert_row(session: AsyncSession, row: Table) -> None:
    """Insert it now, and set its id, if it has one. It does not belong to the session then."""
    statement, names = _insert(type(row))
    values = {name: getattr(row, name) for name in names}
    if _ID in values and values[_ID] is None:
        del values[_ID]
    result = cast("CursorResult[Any]", await session.execute(statement, values))
    if _ID in names and (key := result.inserted_primary_key) is not None:
        setattr(row, _ID, key[0])


@cache
def _insert(kind: type[Table]) -> tuple[Insert, tuple[str, ...]]:
    """Built once. The columns are called as the fields are."""
    names = tuple(attribute.key for attribute in inspect(kind).column_attrs)
    return insert(table_of(kind)), names
