"""Schema migration: upgrades a database to the newest revision with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script.revision import ResolutionError
from alembic.util import CommandError

from registry.database.outages import translate_outages
from registry.errors import DatabaseUnavailable

_HERE = Path(__file__).resolve().parent
FOLDERS = (_HERE / "alembic", _HERE.parent.parent / "alembic")
"""Where the migrations are: in a wheel, in a checkout."""


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for this database. Raises DatabaseUnavailable without it."""
    folder = next((each for each in FOLDERS if (each / "env.py").is_file()), None)
    if folder is None:
        raise DatabaseUnavailable(
            f"this installation is not complete: there are no migrations in {FOLDERS[0]}"
        )
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
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
