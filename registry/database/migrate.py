"""Schema migration: upgrades a database to the newest revision with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script.revision import ResolutionError
from alembic.util import CommandError

from registry.database.engine import translate_outages
from registry.errors import DatabaseUnavailable

ROOT = Path(__file__).resolve().parent.parent.parent


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for this database. Raises DatabaseUnavailable without it."""
    if not (ROOT / "alembic.ini").is_file():
        raise DatabaseUnavailable(f"the migrations are missing: there is no {ROOT / 'alembic.ini'}")
    config = Config(str(ROOT / "alembic.ini"))
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str) -> None:
    """Apply the missing migrations. Blocks; use a thread where an event loop runs.

    Raises DatabaseUnavailable.
    """
    config = alembic_config(database_url)
    with translate_outages():
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            if not isinstance(error.__cause__, ResolutionError):
                raise
            raise DatabaseUnavailable(
                f"a newer Adaptry has upgraded this database to {error.__cause__.argument}: "
                "use that one, or restore a backup from before"
            ) from error
