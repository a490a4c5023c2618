"""Schema revision of a database, compared with the one this code needs. Changes nothing."""

import asyncio
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from registry.database.migrate import alembic_config
from registry.database.outages import translate_outages
from registry.database.schema_state import SchemaState
from registry.database.urls import check_url


def schema_state(database_url: str) -> SchemaState:
    """Blocks, and runs an event loop. Raises DatabaseUnavailable; ValueError for a wrong URL."""
    url = check_url(database_url)
    scripts = ScriptDirectory.from_config(alembic_config(url))
    revisions = [script.revision for script in scripts.walk_revisions()]  # newest first
    parsed = make_url(url)
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database
    if is_file and not Path(str(parsed.database)).is_file():
        current = None  # connecting would create it
    else:
        current = asyncio.run(_current(url))
    return SchemaState.of(current, revisions)


async def _current(url: str) -> str | None:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        with translate_outages():
            async with engine.connect() as connection:
                return await connection.run_sync(_revision)
    finally:
        await engine.dispose()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
