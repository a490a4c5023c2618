"""Values that a database can't hold: the request's fault, and no outage of the database."""

import pytest
from sqlalchemy import select
from sqlmodel import col

from registry.database.engine import Database
from registry.errors import DatabaseUnavailable, ValueRefused
from registry.models.job import Job

pytestmark = pytest.mark.both_databases


async def find(database_url: str, number: int = 1, adapter: str = "a") -> None:
    database = Database(database_url)
    try:
        async with database.read_session() as session:
            found = select(Job).where(col(Job.id) == number, col(Job.adapter) == adapter)
            await session.execute(found)
    finally:
        await database.close()


async def test_a_number_that_no_column_holds_is_refused(database_url: str) -> None:
    with pytest.raises(ValueRefused):
        await find(database_url, number=2**64)


async def test_text_that_postgresql_refuses_is_no_outage(database_url: str) -> None:
    try:
        await find(database_url, adapter="a\0b")
    except DatabaseUnavailable as outage:
        pytest.fail(outage.detail)
    except ValueRefused:
        assert database_url.startswith("postgresql")
