"""Compiled SQL: the databases of tests share it, and each asks with its own values."""

from pathlib import Path

from sqlalchemy import event, literal, select
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.engine.interfaces import CacheStats

from registry.database.engine import Database


async def test_what_one_database_has_compiled_the_next_one_executes(tmp_path: Path) -> None:
    compiled = []

    def note(*arguments: object) -> None:
        context = arguments[4]
        assert isinstance(context, DefaultExecutionContext)
        compiled.append(context.cache_hit is not CacheStats.CACHE_HIT)

    for number in (1, 2, 3):
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/{number}.db")
        event.listen(database._engine.sync_engine, "before_cursor_execute", note)
        async with database.read_session() as session:
            asked = select(literal(number).label("of_this_test"))
            assert (await session.execute(asked)).scalar_one() == number
        await database.close()
    assert compiled == [True, False, False]
