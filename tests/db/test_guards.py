"""Guards in the database itself: against wrong state changes and changes of immutable columns."""

import itertools

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from registry.database.engine import Database
from registry.lifecycle.transitions import TRANSITIONS
from registry.models import VersionState
from tests.db import rows

pytestmark = pytest.mark.both_databases


async def put(database: Database, state: VersionState) -> None:
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM version"))
        await session.execute(text(rows.version(state=f"'{state}'")))


async def test_the_triggers_allow_the_service_s_transitions_and_no_others(
    database_url: str,
) -> None:
    database = Database(database_url)
    async with database.transaction() as session:
        await session.execute(text(rows.ADAPTER))
    refused = []
    for old, new in itertools.product(VersionState, VersionState):
        await put(database, old)
        try:
            async with database.transaction() as session:
                await session.execute(text("UPDATE version SET state = :new"), {"new": new})
        except IntegrityError:
            refused.append((old, new))
        async with database.read_session() as session:
            found = (await session.execute(text("SELECT state FROM version"))).scalar_one()
        assert (found == new) is ((old, new) not in refused)
    await database.close()
    allowed = {(old, new) for old, news in TRANSITIONS.items() for new in news}
    allowed |= {(state, state) for state in VersionState}
    assert set(itertools.product(VersionState, VersionState)) - set(refused) == allowed


@pytest.mark.parametrize("change", ["number = 2", "digest = 'y'", "id = 2"])
async def test_a_published_version_never_becomes_another(database_url: str, change: str) -> None:
    database = Database(database_url)
    async with database.transaction() as session:
        await session.execute(text(rows.ADAPTER))
    await put(database, VersionState.READY)
    with pytest.raises(IntegrityError):
        async with database.transaction() as session:
            await session.execute(text(f"UPDATE version SET {change}"))
    await put(database, VersionState.PENDING)
    async with database.transaction() as session:
        await session.execute(text(f"UPDATE version SET {change}"))
    await database.close()


async def test_a_state_that_does_not_exist_is_refused(database_url: str) -> None:
    database = Database(database_url)
    async with database.transaction() as session:
        await session.execute(text(rows.ADAPTER))
    await put(database, VersionState.READY)
    with pytest.raises(IntegrityError):
        async with database.transaction() as session:
            await session.execute(text("UPDATE version SET state = 'happy'"))
    await database.close()
