"""Staged import: an unpacked export, verified before anything is changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from registry.errors import InvalidArchive
from registry.transfer.format import (
    EVENTS,
    INDEX,
    AdapterManifest,
    EventRecord,
    Index,
    manifest_name,
)
from registry.transfer.unpack import Unpacked
from registry.validation import explain

_MAX_LINE_BYTES = 2**20

Part = TypeVar("Part", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Stage:
    """A complete and consistent export."""

    folder: Path
    index: Index
    manifests: tuple[AdapterManifest, ...]

    def files_of(self, digest: str) -> Path:
        return self.folder / "files" / digest

    def events(self) -> Iterator[EventRecord]:
        """Iterate over the events, which may be many. Raises InvalidArchive."""
        if self.index.events is None:
            return
        with (self.folder / EVENTS).open("rb") as lines:
            while line := lines.readline(_MAX_LINE_BYTES):
                yield _parse(EventRecord, line, EVENTS)


def check_export(unpacked: Unpacked, is_stored: Callable[[str], bool]) -> Stage:
    """Check that nothing is missing, changed or superfluous.

    `is_stored`: files that are in this registry's store may be missing. Raises InvalidArchive.
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
    if extra := sorted(unpacked.folders() - digests.keys()):
        raise InvalidArchive("archive_incomplete", f"the archive lacks the files of {_some(extra)}")
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
    return _parse(part, (folder / name).read_bytes(), name)


def _parse(part: type[Part], content: bytes, name: str) -> Part:
    try:
        return part.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidArchive("archive_invalid", f"{name}: {where}: {explain(first)}") from None


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
