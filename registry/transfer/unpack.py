"""Export unpacker: reads a tar as a stream, takes only its files, hashes and bounds them."""

import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, cast

from blake3 import blake3

from registry.errors import InvalidArchive, SourceTooLarge
from registry.storage.integrity import manifest_digest
from registry.transfer.format import is_part

_CHUNK_BYTES = 2**20
_MAX_HEADER_BYTES = (
    2**16
)  # `tarfile` searches headers in quadratic time and follows chains recursively
_MAX_DOCUMENT_BYTES = 64 * 2**20
_MAX_FILES = 1_000_000


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits for the whole archive, and for each version's files."""

    max_bytes: int
    max_adapter_bytes: int


@dataclass
class Unpacked:
    """An unpacked archive in `folder`. `hashes` are blake3, by name in the archive."""

    folder: Path
    hashes: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    bytes_of: Counter[str] = field(default_factory=Counter)  # by folder
    total_bytes: int = 0

    def folders(self) -> set[str]:
        """The names of the folders in `files/`."""
        return {name.split("/")[1] for name in self.hashes if name.startswith("files/")}

    def digests(self) -> dict[str, str]:
        """The digest of the files in each folder of `files/`, by the name of the folder."""
        by_folder: dict[str, list[tuple[str, int, str]]] = {}
        for name, hashed in self.hashes.items():
            if name.startswith("files/") and name.count("/") == 2:  # those beside are not kept
                _, folder, file = name.split("/")
                by_folder.setdefault(folder, []).append((file, self.sizes[name], hashed))
        return {folder: manifest_digest(files) for folder, files in by_folder.items()}


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Bounded:
    """Bounds the bytes of a header, which `tarfile` would load completely."""

    def __init__(self, archive: Readable) -> None:
        self._archive = archive
        self._left_bytes = 0

    def expect(self, content_bytes: int = 0) -> None:
        self._left_bytes = content_bytes + _MAX_HEADER_BYTES

    def read(self, size: int, /) -> bytes:
        chunk = self._archive.read(size)
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise InvalidArchive("archive_invalid", "the archive has a header without end")
        return chunk


def unpack(archive: Readable, into: Path, limits: ArchiveLimits) -> Unpacked:
    """Write a tar's files into an empty folder, in any order.

    Raises InvalidArchive, SourceTooLarge, OSError.
    """
    unpacked = Unpacked(into)
    bounded = _Bounded(archive)
    bounded.expect()
    try:
        with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r|") as tar:
            for member in tar:
                bounded.expect(member.size)
                name = member.name.removeprefix("./")
                if member.isdir():
                    continue
                _check_member(member, name, unpacked)
                _check_room(member.size, name, unpacked, limits)
                _write(tar, member, name, unpacked)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidArchive("archive_invalid", f"the archive can't be read: {error}") from None
    return unpacked


def _check_member(member: tarfile.TarInfo, name: str, unpacked: Unpacked) -> None:
    if not member.isreg() or not is_part(name):
        raise InvalidArchive("archive_invalid", f"{name[:200]!r} does not belong to an export")
    if name in unpacked.hashes:
        raise InvalidArchive("archive_invalid", f"{name} is there twice")
    if len(unpacked.hashes) >= _MAX_FILES:
        raise SourceTooLarge(f"the archive holds more than {_MAX_FILES} files")
    if name.endswith((".json", ".jinja")) and member.size > _MAX_DOCUMENT_BYTES:
        raise SourceTooLarge(f"{name} is larger than {_MAX_DOCUMENT_BYTES} bytes")


def _check_room(size_bytes: int, name: str, unpacked: Unpacked, limits: ArchiveLimits) -> None:
    folder = name.rpartition("/")[0]
    unpacked.total_bytes += size_bytes
    unpacked.bytes_of[folder] += size_bytes
    if unpacked.total_bytes > limits.max_bytes:
        raise SourceTooLarge(f"the archive holds more than {limits.max_bytes} bytes")
    if folder.startswith("files/") and unpacked.bytes_of[folder] > limits.max_adapter_bytes:
        raise SourceTooLarge(f"{folder} holds more than {limits.max_adapter_bytes} bytes")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, unpacked: Unpacked) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise InvalidArchive("archive_invalid", f"{name} can't be read")
    path = unpacked.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    hasher = blake3()
    with path.open("xb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            hasher.update(chunk)
            target.write(chunk)
    unpacked.hashes[name] = hasher.hexdigest()
    unpacked.sizes[name] = member.size
