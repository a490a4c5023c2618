"""Backup and restore of a registry: the database's rows first, then the store's files.

Files never change, so those that existed when the rows were read can be copied afterwards. If some
were purged in between, the rows are read once more. A backup folder may be reused: files that it
has are not copied again, and until the end it remains the previous backup.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import URL, make_url

from registry.backup import database_dump
from registry.backup.database_dump import POSTGRESQL_FILE, SQLITE_FILE, BackupFailed, NamedVersion
from registry.database.urls import async_url
from registry.models import SERVABLE, VersionState
from registry.storage.integrity import hash_file, manifest_digest

Dump = Callable[[URL, Path], Sequence[NamedVersion]]
"""Writes the rows of one snapshot to a file."""

_ATTEMPTS = 3
_PARTIAL = ".partial"  # what is not complete yet, or never will be


@dataclass(frozen=True, slots=True)
class Backup:
    """Contents of a backup. `copied` and `kept` count folders that are new, or were there.

    `without_files`: versions that can't be served and have no files.
    """

    versions: int
    copied: int
    kept: int
    size_bytes: int
    without_files: Sequence[str]


class _Missing(Exception):
    """Versions that can be served, without files."""

    def __init__(self, references: Sequence[str]) -> None:
        self.references = references


def back_up(
    database_url: str, store: Path, folder: Path, *, dump: Dump = database_dump.dump
) -> Backup:
    """Back up rows and files to a folder, while servers run.

    Raises BackupFailed, DatabaseUnavailable, OSError.
    """
    url = make_url(async_url(database_url))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the rows contain webhooks' secrets
    rows = folder / _rows_file(url)
    dumped = rows.with_suffix(_PARTIAL)
    try:
        versions, done = _dump_and_copy(partial(dump, url, dumped), store, folder / "store")
        _settle(dumped)
        dumped.replace(rows)
    finally:
        dumped.unlink(missing_ok=True)
    _settle(folder)
    named = {version.digest for version in versions if version.state != VersionState.PURGED}
    _remove_others(folder / "store", named)
    return done


def _dump_and_copy(
    dump: Callable[[], Sequence[NamedVersion]], store: Path, into: Path
) -> tuple[Sequence[NamedVersion], Backup]:
    attempts = 0
    while True:
        attempts += 1
        versions = dump()
        try:
            return versions, _copy_all(versions, store, into)
        except _Missing as error:
            if attempts == _ATTEMPTS:
                raise BackupFailed(f"{_some(error.references)}: no files in {store}") from None


def restore(folder: Path, database_url: str, store: Path) -> Backup:
    """Restore to a new database and a store, before a server starts. Raises BackupFailed, OSError.

    Files first: an interrupted restore leaves no rows, and can be repeated.
    """
    url = make_url(async_url(database_url))
    rows = folder / _rows_file(url)
    if not rows.is_file():
        raise BackupFailed(f"there is no {rows}: {_kinds_of(folder)}")
    database_dump.check_empty(url)
    done = _copy_stored(folder / "store", store)
    database_dump.load(url, rows)
    return done


def _rows_file(url: URL) -> str:
    return SQLITE_FILE if url.get_backend_name() == "sqlite" else POSTGRESQL_FILE


def _kinds_of(folder: Path) -> str:
    other = {SQLITE_FILE: "SQLite", POSTGRESQL_FILE: "PostgreSQL"}
    found = [kind for name, kind in other.items() if (folder / name).is_file()]
    if not found:
        return "this is no backup"
    return f"this backup is of {found[0]} (`adaptry export` leads from one database to another)"


# ---- files -----------------------------------------------------------------------------------


def _copy_all(versions: Iterable[NamedVersion], store: Path, into: Path) -> Backup:
    """Raises _Missing, BackupFailed, OSError."""
    total = copied = kept = size_bytes = 0
    done: set[str] = set()
    missing: list[str] = []
    without: list[str] = []
    for version in versions:
        total += 1
        if version.state == VersionState.PURGED or version.digest in done:
            continue
        source, target = _place(store, version.digest), _place(into, version.digest)
        if target.is_dir():
            kept += 1
        elif _copy_if_there(source, target, version.digest):
            copied += 1
        else:
            (missing if version.state in SERVABLE else without).append(version.reference)
            continue
        done.add(version.digest)
        size_bytes += _size_of(target)
    if missing:
        raise _Missing(missing)
    return Backup(total, copied, kept, size_bytes, without)


def _copy_stored(backup: Path, store: Path) -> Backup:
    """Copy all files of a backup. Those already in the store are verified."""
    copied = kept = size_bytes = 0
    for source in sorted(backup.glob("adapters/??/*")):
        if source.suffix == _PARTIAL:
            continue
        target = _place(store, source.name)
        if target.is_dir():
            if _digest_of(target) != source.name:
                raise BackupFailed(f"{target} holds something else: restore into an empty store")
            kept += 1
        else:
            _copy(source, target, source.name)
            copied += 1
        size_bytes += _size_of(target)
    return Backup(copied + kept, copied, kept, size_bytes, ())


def _place(store: Path, digest: str) -> Path:
    """As `ArtifactStore.path_of`."""
    return store / "adapters" / digest[:2] / digest


def _copy_if_there(source: Path, target: Path, digest: str) -> bool:
    """Copy the folder; False if it is missing, or deleted meanwhile."""
    try:
        _copy(source, target, digest)
    except OSError:
        if source.is_dir():
            raise
        return False
    return True


def _copy(source: Path, target: Path, digest: str) -> None:
    """Copy all of an adapter's files, or none. Raises BackupFailed, OSError."""
    unfinished = target.with_suffix(_PARTIAL)
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        shutil.copytree(source, unfinished)
    except shutil.Error as error:  # a list of errors by file
        raise OSError(errno.EIO, "it can't be copied", str(source)) from error
    if _digest_of(unfinished) != digest:
        shutil.rmtree(unfinished)
        raise BackupFailed(f"{source} is not what was registered: its digest is another one")
    for path in (*unfinished.iterdir(), unfinished):
        _settle(path)
    unfinished.rename(target)
    _settle(target.parent)


def _remove_others(store: Path, digests: set[str]) -> None:
    """Delete what only the previous backup had, or an interrupted one left."""
    for folder in store.glob("adapters/??/*"):
        if folder.name not in digests:
            shutil.rmtree(folder)


def _digest_of(folder: Path) -> str:
    return manifest_digest(map(hash_file, folder.iterdir()))


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _settle(path: Path) -> None:
    """Make it durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _some(references: Sequence[str]) -> str:
    more = f" and {len(references) - 3} more" if len(references) > 3 else ""
    return ", ".join(references[:3]) + more
