"""Emptied database: a test finds no row of the one before, not even one that is committed late."""

import asyncio

import pytest
from sqlalchemy import text

from registry.database.engine import Database
from tests.db.rows import ADAPTER
from tests.support.databases.fixtures import EMPTY_ALL_TABLES
from tests.support.databases.kept_psql import KeptPsql
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


def test_a_connection_that_is_kept_is_made_again_when_the_server_was_killed(
    postgres: PostgresServer,
) -> None:
    postgres.new_database("kept")
    with KeptPsql(postgres, "kept") as psql:
        psql.run("CREATE TABLE filled (number int)")
        psql.run("INSERT INTO filled VALUES (1)")
        postgres.kill()
        postgres.start()
        psql.run("INSERT INTO filled VALUES (2)")
        with pytest.raises(AssertionError, match="does not exist"):
            psql.run("DELETE FROM unknown")
    assert postgres.sql("SELECT count(*) FROM filled", "kept").split() == ["2"]
