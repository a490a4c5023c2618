"""Column types, defaults and helpers shared by all tables."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, cast

import sqlalchemy
from sqlalchemy import JSON, BigInteger, Column, DateTime, Integer, String
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel


class Table(SQLModel):
    """A row of a table, with the values it is made of and its fields' defaults.

    SQLModel inspects the signature of each default's factory and reports each value to SQLAlchemy,
    for every new row: an eighth of a registration's CPU. A row that is not in the database needs
    neither.
    """

    def __init__(self, **values: Any) -> None:
        object.__setattr__(self, "__pydantic_fields_set__", set(values))
        for name, field in type(self).model_fields.items():
            if name not in values and not field.is_required():
                factory: Any = field.default_factory
                values[name] = field.default if factory is None else factory()
        self.__dict__.update(values)


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware in Python, UTC in the database: SQLite stores no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


BIG_ID = BigInteger().with_variant(Integer, "sqlite")  # for tables without an upper bound
MAX_BIG_ID = 2**63 - 1


def bytewise_string(length: int) -> String:
    """Sorted by bytes, as SQLite does: PostgreSQL would sort by its locale."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def now() -> datetime:
    return datetime.now(UTC)


def json_column(default: str) -> Column[Any]:
    return Column(JSON, nullable=False, server_default=default)


def one_of(column: str, values: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


def table_of(row: type[SQLModel]) -> sqlalchemy.Table:
    """For statements past the ORM, which takes as long again to build and look up one."""
    return cast(sqlalchemy.Table, sqlalchemy.inspect(row).local_table)


class _Row(Protocol):
    id: int | None


def row_id(row: _Row) -> int:
    """The id of a row that is in the database."""
    if row.id is None:
        raise ValueError(f"{type(row).__name__} has not been written yet")
    return row.id
