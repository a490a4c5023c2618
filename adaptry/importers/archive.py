"""Export archives on this machine: a folder, a tar, a gzipped tar or a pipe."""

import contextlib
import gzip
import os
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from adaptry.terminal.errors import CommandError
from registry.errors import RegistryError
from registry.storage.tar import CHUNK_BYTES, ChunkReader, Entry, tar_chunks
from registry.transfer.format import INDEX, is_part
from registry.transfer.staging import check_export
from registry.transfer.unpack import ArchiveLimits, unpack

_GZIP = b"\x1f\x8b"
_NO_LIMIT = 2**62


def write_archive(target: str, chunks: Iterator[bytes]) -> int:
    """Write a new archive, completely or not at all; returns its size in bytes.

    Raises CommandError, and what the chunks raise.
    """
    if target == "-":
        return _write(sys.stdout.buffer, chunks)
    path = Path(target)
    if path.exists():
        raise CommandError(f"{target} already exists: choose another name or remove it")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = _write_partial(path, partial, chunks)
        partial.rename(path)
    except OSError as error:
        raise CommandError(f"{target} can't be written: {error.strerror or error}") from error
    finally:
        _remove(partial)
    return written


def _write_partial(path: Path, partial: Path, chunks: Iterator[bytes]) -> int:
    if path.name.endswith(".tar"):
        with partial.open("wb") as file:
            return _write(file, chunks)
    if path.name.endswith((".tar.gz", ".tgz")):
        # without name and time, equal exports are equal files
        with partial.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            return _write(packed, chunks)
    partial.mkdir()
    reader = ChunkReader(chunks)
    try:
        check_export(
            unpack(reader, partial, ArchiveLimits(_NO_LIMIT, _NO_LIMIT)), lambda digest: False
        )
    except RegistryError as error:
        raise CommandError(f"the server sent something else: {error.detail}") from error
    return reader.read_bytes


def _write(file: IO[bytes] | gzip.GzipFile, chunks: Iterable[bytes]) -> int:
    written = 0
    for chunk in chunks:
        file.write(chunk)
        written += len(chunk)
    file.flush()
    return written


def read_archive(source: str) -> Iterator[bytes]:
    """The chunks of a tar, from any form of archive. Raises CommandError."""
    if source == "-":
        return _read_chunks(sys.stdin.buffer)
    path = Path(source)
    if os.path.isdir(path):
        return _pack(path)
    try:
        with path.open("rb") as file:
            is_packed = file.read(len(_GZIP)) == _GZIP
        return _read_chunks(gzip.open(path) if is_packed else path.open("rb"))
    except OSError as error:
        raise CommandError(f"{source} can't be read: {error.strerror}") from error


def _pack(folder: Path) -> Iterator[bytes]:
    if not (folder / INDEX).is_file():
        raise CommandError(
            f"{folder} is no export, as it has no {INDEX}; for a folder of adapters say --from peft"
        )
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return tar_chunks(Entry(name, folder / name) for name in sorted(names) if is_part(name))


def _read_chunks(file: "IO[bytes] | gzip.GzipFile") -> Iterator[bytes]:
    with file:
        try:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
        except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
            raise CommandError(f"the archive can't be read: {error}") from error


def _remove(partial: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink()
