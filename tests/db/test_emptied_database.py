"""Emptied database: a test finds no row of the one before, not even one that is committed late."""

import asyncio

import pytest
from sqlalchemy import text

from registry.database.engine import Database
from tests.db.rows import ADAPTER
from tests.support.databases.fixtures import EMPTY_ALL_TABLES
from tests.support.databases.postgres import PostgresServer

pytestmark = pytest.mark.only_postgresql


async def test_what_is_committed_meanwhile_is_deleted_too(
    database_url: str, migrated_postgres: PostgresServer
) -> None:
    database = Database(database_url)
    async with database.transaction() as session:
        await session.execute(text(ADAPTER))
        empty = asyncio.to_thread(migrated_postgres.sql, EMPTY_ALL_TABLES, "migrated")
        emptying = asyncio.create_task(empty)
        ended, _ = await asyncio.wait([emptying], timeout=0.5)
        assert not ended, "it waits for this transaction"
    await emptying
    async with database.read_session() as session:
        assert await session.scalar(text("SELECT count(*) FROM adapter")) == 0
    await database.close()
