"""Local source: a folder on this machine, under one of the configured roots."""

import asyncio
import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from registry.errors import (
    InvalidAdapter,
    SourceNotAllowed,
    SourceNotFound,
    SourceTimeout,
    SourceUnavailable,
)
from registry.errors.defects import Defect
from registry.inspection.foreign_folders import explain_missing_files, list_names, starts_in
from registry.inspection.safetensors_header import PICKLE_FILE, WEIGHTS_FILE
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.disks.folders import resolve, share_of
from registry.sources.disks.reads import Share, look_in_thread
from registry.sources.quarantine import CHUNK_BYTES, TAKEN_FILES, QuarantineWriter
from registry.sources.threads import run_in_thread

STALLED_SECONDS = 300.0  # without a byte, when a copy ends; the sync of a large file takes a while


async def find_folder(roots: Sequence[Path], source: str, tenant: str | None) -> "LocalSource":
    """The folder that `source` names, absolute or relative to a root. `roots` have no links.

    One root is looked at after the other, as any may be on a disk that hangs. `tenant`: whose read
    it is. Raises SourceNotAllowed, SourceNotFound, SourceTimeout.
    """
    is_allowed = False
    for path in dict.fromkeys(root / source for root in roots):
        share = share_of(path, roots, tenant)
        folder, is_folder = await look_in_thread(share, resolve, path)
        if any(folder.is_relative_to(root) for root in roots):
            if is_folder:
                return LocalSource(folder, roots, tenant)
            is_allowed = True
    if not is_allowed:
        raise SourceNotAllowed(f"{source!r} is in none of the folders to register from")
    raise SourceNotFound(f"{source!r} is not a folder")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file. `path` has no links, `name` is the one in the adapter's folder."""

    name: str
    path: Path
    size_bytes: int


class LocalSource:
    """Copies the adapter's files; other files are ignored.

    A file may be a link, as in the Hub's cache and in volumes of Kubernetes, if what it leads to
    lies under one of `roots`. `tenant`: whose read it is.
    """

    def __init__(self, folder: Path, roots: Sequence[Path] = (), tenant: str | None = None) -> None:
        self._folder = folder
        self._roots = roots
        self._tenant = tenant

    @property
    def share(self) -> Share:
        """Whose reads of which disk these are."""
        return share_of(self._folder, self._roots, self._tenant)

    async def fetch(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """As `Source.fetch`. Raises SourceTimeout if the folder's disk hangs."""
        copy = partial(self.copy, into, limits, progress)
        copying = run_in_thread(copy, progress.stop, share=self.share)
        return await _while_it_moves(asyncio.create_task(copying), progress)

    async def total_bytes(self) -> int:
        """As `size_bytes`. Raises SourceTimeout and SourceUnavailable too."""
        try:
            return await look_in_thread(self.share, self.size_bytes)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SourceUnavailable(f"the folder can't be read now: {reason}") from None

    def size_bytes(self) -> int:
        """Total size of the files to copy. Raises InvalidAdapter."""
        return sum(file.size_bytes for file in self._files())

    def copy(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """Copy in this thread."""
        writer = QuarantineWriter(into, limits, progress)
        files = self._files()
        writer.expect(sum(file.size_bytes for file in files))
        names = {file.name for file in files}
        if WEIGHTS_FILE not in names and self._has(PICKLE_FILE):
            writer.mark_pickle()
        elif not names.issuperset(TAKEN_FILES):
            explain_missing_files(list_names(self._folder), starts_in(self._folder))
        for file in files:
            with open_regular(file.path, self._roots) as source, writer.open(file.name) as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
        self.copy_training_files(writer)
        return writer.finish()

    def copy_training_files(self, writer: QuarantineWriter) -> None:
        """Those that can be read; they are no part of the adapter."""
        for name in TRAINING_FILES:
            try:
                self._copy_training_file(name, writer)
            except (InvalidAdapter, SourceNotFound):
                continue
            except OSError:  # a damaged disk, say
                writer.leave_beside(name)

    def _copy_training_file(self, name: str, writer: QuarantineWriter) -> None:
        if (file := _find(self._folder / name, self._roots)) is None:
            return
        with open_regular(file.path, self._roots) as source, writer.open_beside(name) as target:
            while target.has_room and (chunk := source.read(CHUNK_BYTES)):
                target.write(chunk)

    def _has(self, name: str) -> bool:
        return _status(self._folder / name) is not None

    def _files(self) -> list[LocalFile]:
        found = (_find(self._folder / name, self._roots) for name in TAKEN_FILES)
        return [file for file in found if file is not None]


async def _while_it_moves(
    copying: "asyncio.Task[FetchedSource]", progress: Progress
) -> FetchedSource:
    """Its result. Ends it and raises SourceTimeout once nothing has come for so long."""
    bytes_done = -1
    try:
        while not copying.done():
            if progress.bytes_done == bytes_done:
                raise SourceTimeout(STALLED_SECONDS, "nothing could be read from the folder for")
            bytes_done = progress.bytes_done
            await asyncio.wait({copying}, timeout=STALLED_SECONDS)
        return copying.result()
    finally:
        copying.cancel()
        await asyncio.wait({copying})


def open_regular(file: Path, roots: Sequence[Path] = ()) -> BinaryIO:
    """Open a file that must not have been replaced by a link, or by a pipe that would block.

    With `roots`, what was opened must lie under one of them, whatever became of the folders above.
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
        _check_opened(file, descriptor, roots)
    except InvalidAdapter:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _find(file: Path, roots: Sequence[Path]) -> LocalFile | None:
    """The file, or the one that a link leads to; None if it is missing.

    Raises InvalidAdapter (`unsafe_file`, `unreadable_file`).
    """
    status = _status(file)
    path = file
    if status is not None and stat.S_ISLNK(status.st_mode):
        path = Path(os.path.realpath(file))
        if not any(path.is_relative_to(root) for root in roots):
            raise InvalidAdapter(
                Defect.UNSAFE_FILE,
                f"{file.name} is a link to a file outside of the folders to register from: "
                "use `adaptry adapter push`, or copy the file",
            )
        status = _status(path)
        if status is None:
            raise InvalidAdapter(Defect.UNSAFE_FILE, f"{file.name} is a link to nothing")
    if status is None:
        return None
    _check_regular(file, status)
    return LocalFile(file.name, path, status.st_size)


def _status(file: Path) -> os.stat_result | None:
    """Status of the file itself, even if it is a link; None if it is missing."""
    try:
        return file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise _unreadable(file) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise


def _check_regular(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unsafe(file)


def _check_opened(file: Path, descriptor: int, roots: Sequence[Path]) -> None:
    """Linux names the file that is open; elsewhere the check of the path has to do."""
    try:
        opened = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        return
    if roots and not any(opened.is_relative_to(root) for root in roots):
        raise _unsafe(file)


def _unsafe(file: Path) -> InvalidAdapter:
    return InvalidAdapter(Defect.UNSAFE_FILE, f"{file.name} is not a regular file")


def _unreadable(file: Path) -> InvalidAdapter:
    return InvalidAdapter(Defect.UNREADABLE_FILE, f"this server may not read {file.name}")
