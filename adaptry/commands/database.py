"""`adaptry db …`: schema migrations, backup and restore of the registry."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.terminal.errors import CommandError, UsageError
from adaptry.terminal.options import AsJson, show_help
from adaptry.terminal.output import show_json, size

if TYPE_CHECKING:  # at run time in each command: they take a third of a second
    from registry.backup.backup import Backup

app = typer.Typer(invoke_without_command=True, callback=show_help, help="The registry's database.")

DatabaseUrl = Annotated[
    str | None, typer.Option("--database", envvar="ADAPTRY_DATABASE_URL", metavar="URL")
]
Store = Annotated[Path | None, typer.Option("--store", envvar="ADAPTRY_STORE", metavar="DIR")]
BackupFolder = Annotated[Path, typer.Argument(metavar="FOLDER")]


@app.command()
def upgrade(url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Migrate the tables to this release; `serve` does so too."""
    shown = upgrade_database(url)
    if as_json:
        show_json({"database": shown, "up_to_date": True})
    else:
        print(f"up to date: {shown}")


@app.command()
def backup(
    folder: BackupFolder, url: DatabaseUrl = None, store: Store = None, as_json: AsJson = False
) -> None:
    """Copy rows and files into a folder, while servers run; later backups copy only new files."""
    from registry.backup.backup import back_up

    done = _run(lambda: back_up(_url(url), _store(store), folder))
    if as_json:
        show_json(asdict(done))
        return
    versions = f"{done.versions} version{'s' * (done.versions != 1)}"
    print(f"{folder}  {versions}, {size(done.size_bytes)}, {done.copied} new")
    for reference in done.without_files:
        print(f"without files: {reference}", file=sys.stderr)


@app.command()
def restore(
    folder: BackupFolder, url: DatabaseUrl = None, store: Store = None, as_json: AsJson = False
) -> None:
    """Fill an empty database and a store from a backup, before `serve`."""
    from registry.backup import backup as backups

    done = _run(lambda: backups.restore(folder, _url(url), _store(store)))
    if as_json:
        show_json(asdict(done))
        return
    files = "1 adapter's" if done.versions == 1 else f"{done.versions} adapters'"
    print(f"restored: {files} files, {size(done.size_bytes)}")


def upgrade_database(url: str | None) -> str:
    """Migrate to the newest schema; returns the URL without its password. Raises CommandError."""
    from sqlalchemy import make_url

    from registry.database.migrate import upgrade as migrate
    from registry.errors import RegistryError

    try:
        given = _url(url)
        migrate(given)
    except RegistryError as error:
        raise CommandError(error.detail) from error
    return make_url(given).render_as_string(hide_password=True)


def _run(work: "Callable[[], Backup]") -> "Backup":
    """Raises CommandError."""
    from registry.backup.database_dump import BackupFailed
    from registry.errors import RegistryError

    try:
        return work()
    except RegistryError as error:
        raise CommandError(error.detail) from error
    except BackupFailed as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from error


def _url(given: str | None) -> str:
    from pydantic import ValidationError

    from registry.database.urls import check_url
    from registry.settings import RegistrySettings
    from registry.validation import explain

    try:
        return check_url(given) if given else RegistrySettings().database_url
    except ValidationError as error:
        raise UsageError(f"a setting is wrong: {explain(error.errors()[0])}") from error
    except ValueError as error:
        raise UsageError(f"this database URL does not work here: {error}") from error


def _store(given: Path | None) -> Path:
    from registry.settings import RegistrySettings

    return given or RegistrySettings().store
