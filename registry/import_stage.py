"""What is to be imported, unpacked beside the store and proven whole before anything is changed."""

import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, TypeVar, cast

from blake3 import blake3
from pydantic import BaseModel, ValidationError

from registry.errors import InvalidArchive, SourceTooLarge
from registry.seals import manifest_digest
from registry.transfer_format import (
    EVENTS,
    INDEX,
    AdapterManifest,
    EventRecord,
    Index,
    is_part,
    manifest_name,
)

_CHUNK_BYTES = 2**20
_MAX_HEADER_BYTES = 2**16  # `tarfile` searches them in quadratic time, and chains by recursion
_MAX_DOCUMENT_BYTES = 64 * 2**20
_MAX_LINE_BYTES = 2**20
_MAX_FILES = 1_000_000

Part = TypeVar("Part", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Of the whole archive, and of the files of each version in it."""

    max_bytes: int
    max_adapter_bytes: int


@dataclass
class Unpacked:
    """The folder holds what the archive did. `hashes` are blake3, by name in the archive."""

    folder: Path
    hashes: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    bytes_of: Counter[str] = field(default_factory=Counter)  # by folder
    total_bytes: int = 0

    def digests(self) -> dict[str, str]:
        """The digest of the files in each folder of `files/`, by the name of the folder."""
        by_folder: dict[str, list[tuple[str, int, str]]] = {}
        for name, hashed in self.hashes.items():
            if name.startswith("files/"):
                _, folder, file = name.split("/")
                by_folder.setdefault(folder, []).append((file, self.sizes[name], hashed))
        return {folder: manifest_digest(files) for folder, files in by_folder.items()}


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Bounded:
    """Gives `tarfile` no more for a header than a header needs: it would hold all of it."""

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
    """Write a tar's files into an empty folder, in whatever order they come.

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
    if name.endswith(".json") and member.size > _MAX_DOCUMENT_BYTES:
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


@dataclass(frozen=True, slots=True)
class Stage:
    """An export that is whole in itself."""

    folder: Path
    index: Index
    manifests: tuple[AdapterManifest, ...]

    def files_of(self, digest: str) -> Path:
        return self.folder / "files" / digest

    def events(self) -> Iterator[EventRecord]:
        """One after the other: there may be many. Raises InvalidArchive."""
        if self.index.events is None:
            return
        with (self.folder / EVENTS).open("rb") as lines:
            while line := lines.readline(_MAX_LINE_BYTES):
                yield _parsed(EventRecord, line, EVENTS)


def check(unpacked: Unpacked, is_stored: Callable[[str], bool]) -> Stage:
    """Prove that nothing is missing, changed or more than there should be.

    `is_stored`: files that this registry has need not be there. Raises InvalidArchive.
    """
    if INDEX not in unpacked.hashes:
        raise InvalidArchive("archive_incomplete", f"there is no {INDEX}")
    index = _read(Index, unpacked.folder, INDEX)
    _check_parts(index, unpacked)
    manifests = tuple(
        _read(AdapterManifest, unpacked.folder, manifest_name(name))
        for name in sorted(index.adapters)
    )
    for name, manifest in zip(sorted(index.adapters), manifests, strict=True):
        if manifest.name != name:
            raise InvalidArchive("archive_invalid", f"{manifest_name(name)} is of {manifest.name}")
    _check_files(index, manifests, is_stored)
    _check_lineage(manifests)
    stage = Stage(unpacked.folder, index, manifests)
    for event in stage.events():
        if event.adapter not in index.adapters:
            raise InvalidArchive("archive_invalid", f"an event is about {event.adapter}")
    return stage


def _check_parts(index: Index, unpacked: Unpacked) -> None:
    wanted = {manifest_name(name): hashed for name, hashed in index.adapters.items()}
    if index.events is not None:
        wanted[EVENTS] = index.events
    found = {
        name: hashed
        for name, hashed in unpacked.hashes.items()
        if name != INDEX and not name.startswith("files/")
    }
    digests = unpacked.digests()
    _compare(wanted | {digest: digest for digest in index.files}, found | digests)


def _compare(wanted: dict[str, str], found: dict[str, str]) -> None:
    if missing := sorted(set(wanted) - set(found)):
        raise InvalidArchive("archive_incomplete", f"the archive lacks {_some(missing)}")
    if extra := sorted(set(found) - set(wanted)):
        raise InvalidArchive("archive_invalid", f"its index does not name {_some(extra)}")
    if wrong := sorted(name for name, hashed in wanted.items() if found[name] != hashed):
        raise InvalidArchive("digest_mismatch", f"not what was exported: {_some(wrong)}")


def _check_files(
    index: Index, manifests: tuple[AdapterManifest, ...], is_stored: Callable[[str], bool]
) -> None:
    there = set(index.files)
    used = {version.digest for manifest in manifests for version in manifest.versions}
    if unused := sorted(there - used):
        raise InvalidArchive("archive_invalid", f"no version has the files {_some(unused)}")
    for manifest in manifests:
        for version in manifest.versions:
            if version.needs_files and not (version.digest in there or is_stored(version.digest)):
                which = (
                    manifest.name if version.number is None else f"{manifest.name}:{version.number}"
                )
                raise InvalidArchive(
                    "archive_incomplete", f"the archive lacks the files of {which}"
                )


def _check_lineage(manifests: tuple[AdapterManifest, ...]) -> None:
    parents = {
        f"{manifest.name}:{version.number}": version.parent
        for manifest in manifests
        for version in manifest.versions
    }
    sound: set[str] = set()
    for reference in parents:
        line: set[str] = set()
        ancestor: str | None = reference
        while ancestor in parents and ancestor not in sound:
            if ancestor in line:
                raise InvalidArchive("archive_invalid", f"{reference} descends from itself")
            line.add(ancestor)
            ancestor = parents[ancestor]
        sound |= line


def _read(part: type[Part], folder: Path, name: str) -> Part:
    return _parsed(part, (folder / name).read_bytes(), name)


def _parsed(part: type[Part], content: bytes, name: str) -> Part:
    try:
        return part.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidArchive("archive_invalid", f"{name}: {where}: {first['msg']}") from None


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
