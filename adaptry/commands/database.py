"""`adaptry db …`: the schema of the registry's database, and backups of the registry."""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import make_url

from adaptry.terminal.errors import CommandError, UsageError
from registry.backup.backup import Backup, back_up, restore
from registry.backup.database_dump import BackupFailed
from registry.database.engine import check_url
from registry.database.migrate import upgrade
from registry.errors import RegistryError
from registry.settings import RegistrySettings


def upgrade_database(url: str | None) -> str:
    """Bring the database to the newest schema; its URL without a password. Raises CommandError."""
    try:
        given = _url(url)
        upgrade(given)
    except RegistryError as error:
        raise CommandError(error.detail) from error
    return make_url(given).render_as_string(hide_password=True)


def back_up_registry(folder: Path, url: str | None, store: Path | None) -> Backup:
    """Raises CommandError."""
    return _said(lambda: back_up(_url(url), _store(store), folder))


def restore_registry(folder: Path, url: str | None, store: Path | None) -> Backup:
    """Raises CommandError."""
    return _said(lambda: restore(folder, _url(url), _store(store)))


def _said(work: Callable[[], Backup]) -> Backup:
    try:
        return work()
    except RegistryError as error:
        raise CommandError(error.detail) from error
    except BackupFailed as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from error


def _url(given: str | None) -> str:
    try:
        return check_url(given) if given else RegistrySettings().database_url
    except ValidationError as error:
        raise UsageError(f"a setting is wrong: {error.errors()[0]['msg']}") from error
    except ValueError as error:
        raise UsageError(f"this database URL does not work here: {error}") from error


def _store(given: Path | None) -> Path:
    return given or RegistrySettings().store
