"""Migration environment: the URL is the caller's, ADAPTRY_DATABASE_URL, or the default."""

import asyncio
from typing import Any, Literal

from alembic import context
from sqlalchemy import JSON, Column, Connection, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

import registry.models  # fills SQLModel.metadata
from registry.database import sqlite_file
from registry.database.urls import async_url
from registry.settings import RegistrySettings

TIMEOUT_SECONDS = 60


def database_url() -> str:
    given = context.config.attributes.get("database_url")
    url = async_url(str(given or RegistrySettings().database_url))
    sqlite_file.create(make_url(url))
    return url


def render_type(kind: str, item: object, _: object) -> str | Literal[False]:
    """Migrations name the database's types, not Adaptry's, so that they outlive its code."""
    is_ours = kind == "type" and isinstance(item, registry.models.UtcDateTime)
    return "sa.DateTime(timezone=True)" if is_ours else False


def default_differs(
    context: object,
    inspected_column: object,
    column: Column[Any],
    inspected_default: str | None,
    default: object,
    rendered_default: str | None,
) -> bool | None:
    """None: Alembic's own comparison, which uses `=`; PostgreSQL's json has none."""
    if not isinstance(column.type, JSON):
        return None
    found = (inspected_default or "").removesuffix("::json")
    return found.strip("'") != (rendered_default or "").strip("'")


# An arbitrary advisory lock key: 63 bits of sha256("adaptry migration").
LOCK_KEY = 0x34E57017BD0B1210


def lock(connection: Connection) -> None:
    """All revisions are one transaction: servers that start together wait here for each other, and
    one that is killed leaves the database unchanged. By default SQLite commits each statement."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")


def run(connection: Connection) -> None:
    lock(connection)
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_as_batch=True,  # SQLite can't alter most things in place
        compare_type=True,
        compare_server_default=default_differs,
        render_item=render_type,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    # SQLite's timeout for its lock, PostgreSQL's for a connection
    timeout = {"timeout": TIMEOUT_SECONDS}
    engine = create_async_engine(database_url(), poolclass=NullPool, connect_args=timeout)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


def run_offline() -> None:
    context.configure(url=database_url(), target_metadata=SQLModel.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
