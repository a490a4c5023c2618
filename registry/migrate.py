"""Brings a database to the newest schema with Alembic."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script.revision import ResolutionError
from alembic.util import CommandError

from registry.db import outages_translated
from registry.errors import DatabaseNewer, DatabaseUnavailable

ROOT = Path(__file__).resolve().parent.parent


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for this database. Raises DatabaseUnavailable without our scripts."""
    if not (ROOT / "alembic.ini").is_file():
        raise DatabaseUnavailable(f"the migrations are missing: there is no {ROOT / 'alembic.ini'}")
    config = Config(str(ROOT / "alembic.ini"))
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str) -> None:
    """Apply what is missing. Blocks; call it from a thread where an event loop runs.

    Raises DatabaseUnavailable, DatabaseNewer.
    """
    with outages_translated(), _newer_refused():
        command.upgrade(alembic_config(database_url), "head")


@contextmanager
def _newer_refused() -> Iterator[None]:
    """The database is at a revision that we have no script of, and no way back from."""
    try:
        yield
    except CommandError as error:
        if isinstance(error.__cause__, ResolutionError):
            raise DatabaseNewer(str(error.__cause__.argument)) from error
        raise
