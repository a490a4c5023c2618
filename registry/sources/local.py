"""Local source: a folder on this machine, under one of the configured roots."""

import errno
import os
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from registry.errors import InvalidAdapter, SourceNotAllowed, SourceNotFound
from registry.errors.defects import Defect
from registry.inspection.inspector import PICKLE_FILE, WEIGHTS_FILE
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.quarantine import CHUNK_BYTES, TAKEN_FILES, QuarantineWriter
from registry.sources.threads import run_in_thread


def folder_under(roots: Sequence[Path], source: str) -> Path:
    """The folder that `source` names, absolute or relative to a root. `roots` have no links.

    Raises SourceNotAllowed, SourceNotFound.
    """
    try:
        candidates = [Path(os.path.realpath(root / source)) for root in roots]
    except ValueError:  # a NUL or a lone surrogate
        raise SourceNotFound("the source is no path") from None
    allowed = [path for path in candidates if any(path.is_relative_to(root) for root in roots)]
    if not allowed:
        raise SourceNotAllowed(f"{source!r} is in none of the folders to register from")
    for path in allowed:
        if os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
            return path
    raise SourceNotFound(f"{source!r} is not a folder")


class LocalSource:
    """Copies the adapter's files; other files are ignored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def fetch(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """As `Source.fetch`."""
        return await run_in_thread(partial(self.copy, into, limits, progress), progress.stop)

    def size_bytes(self) -> int:
        """Total size of the files to copy. Raises InvalidAdapter."""
        return sum(status.st_size for _, status in self._files())

    def copy(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """Copy in this thread."""
        writer = QuarantineWriter(into, limits, progress)
        files = self._files()
        writer.expect(sum(status.st_size for _, status in files))
        if WEIGHTS_FILE not in {file.name for file, _ in files} and self._has(PICKLE_FILE):
            writer.mark_pickle()
        for file, _ in files:
            with open_regular(file) as source, writer.open(file.name) as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
        return writer.finish()

    def _has(self, name: str) -> bool:
        return _status(self._folder / name) is not None

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        paths = [self._folder / name for name in TAKEN_FILES]
        files = [(path, status) for path in paths if (status := _status(path)) is not None]
        for file, status in files:
            _check_regular(file, status)
        return files


def open_regular(file: Path) -> BinaryIO:
    """Open a file that must not have been replaced by a link, or by a pipe that would block.

    Raises SourceNotFound, InvalidAdapter (`unsafe_file`, `unreadable_file`).
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SourceNotFound(f"{file.name} vanished while the adapter was read") from None
    except PermissionError:
        raise _unreadable(file) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _unsafe(file) from None
        raise
    try:
        _check_regular(file, os.fstat(descriptor))
    except InvalidAdapter:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _status(file: Path) -> os.stat_result | None:
    """Status of the file itself, even if it is a link; None if it is missing."""
    try:
        return file.lstat()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise _unreadable(file) from None


def _check_regular(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unsafe(file)


def _unsafe(file: Path) -> InvalidAdapter:
    return InvalidAdapter(Defect.UNSAFE_FILE, f"{file.name} is not a regular file")


def _unreadable(file: Path) -> InvalidAdapter:
    return InvalidAdapter(Defect.UNREADABLE_FILE, f"this server may not read {file.name}")
