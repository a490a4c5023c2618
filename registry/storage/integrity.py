"""Integrity check: proves that an adapter's files are unchanged without rehashing them.

A fingerprint records size, times and inode of each file after its content was hashed. Any write to
a file changes one of these; a copied or restored store has other ones and is hashed once more.
Fingerprints are next to the adapters in the store: `seals/abcd….json` for `adapters/ab/abcd…/`.
"""

import errno
import json
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from blake3 import blake3

from registry.storage.availability import FilesGone, check_answers

_CHUNK_BYTES = 4 * 2**20
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FilesChanged(Exception):
    """Proof about the version itself: read whole, the files are not what was registered."""


def manifest_digest(files: Iterable[tuple[str, int, str]]) -> str:
    """blake3 over a manifest line (name, bytes, hash) for each file, in the order of names."""
    lines = [f"{name} {size_bytes} {file_hash}\n" for name, size_bytes, file_hash in sorted(files)]
    return blake3("".join(lines).encode()).hexdigest()


def verify(folder: Path, digest: str, *, trust_fingerprint: bool = True) -> None:
    """One `stat` per file if the fingerprint matches and is trusted, else they are hashed again.

    Raises FilesChanged only for files that were read whole, at rest, in a store that answers.
    Otherwise FilesGone, StoreAway or another OSError: they prove nothing about the version.
    """
    try:
        before = fingerprint(folder)
        if not before:
            raise FileNotFoundError(errno.ENOENT, "the folder is empty")
        if trust_fingerprint and before == _read(fingerprint_file(folder)):
            return
        found = manifest_digest(hash_file(folder / name) for name in before)
        at_rest = before == fingerprint(folder)
    except OSError as error:
        check_answers(folder.parents[1])
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise FilesGone(errno.ENOENT, f"{folder.name}: the files are gone") from error
        raise
    if found == digest:
        if at_rest:
            write_fingerprint(folder)
        return
    check_answers(folder.parents[1])
    if not at_rest:
        raise OSError(errno.EBUSY, "the files are being written to")
    raise FilesChanged(f"their digest is {found[:16]}…, not {digest[:16]}…")


def is_whole(folder: Path, digest: str) -> bool:
    """Raises OSError if that can't be told."""
    try:
        verify(folder, digest)
    except (FilesChanged, FilesGone):
        return False
    return True


def write_fingerprint(folder: Path) -> None:
    """Store the fingerprint of files whose content was just verified.

    If the store is full or read-only, there is none, and the next load hashes once more.
    """
    whole = fingerprint_file(folder)
    partial = whole.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        whole.parent.mkdir(exist_ok=True)
        partial.write_text(json.dumps(fingerprint(folder)))
        partial.replace(whole)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno not in _UNWRITABLE:
            raise


def fingerprint_file(folder: Path) -> Path:
    """Path of the fingerprint of an adapter's folder."""
    return folder.parents[2] / "seals" / f"{folder.name}.json"


def fingerprint(folder: Path) -> dict[str, Sequence[int]]:
    """What a write to a file changes, by file."""
    statuses = {file.name: file.stat() for file in sorted(folder.iterdir())}
    return {
        name: [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        for name, status in statuses.items()
    }


def _read(whole: Path) -> object:
    try:
        return json.loads(whole.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def hash_file(file: Path) -> tuple[str, int, str]:
    """Name, bytes and hash: what `manifest_digest` takes."""
    hasher = blake3()
    size_bytes = 0
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            hasher.update(chunk)
            size_bytes += len(chunk)
    return file.name, size_bytes, hasher.hexdigest()
