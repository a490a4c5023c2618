"""Foreign adapters: adapters of other systems, converted to the format of an export."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from blake3 import blake3
from pydantic import ValidationError

from adaptry.terminal.errors import CommandError
from registry.errors import InvalidAdapter, InvalidReference
from registry.inspection.content_digest import content_digest
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import PICKLE_FILE, WEIGHTS_FILE
from registry.inspection.tensor_reader import Truncated
from registry.models import EventKind
from registry.references import DEFAULT_ALIAS, check_name
from registry.sources.beside import files_to_send
from registry.storage.integrity import manifest_digest
from registry.storage.tar import CHUNK_BYTES, Entry
from registry.transfer.format import (
    EVENTS,
    INDEX,
    AdapterManifest,
    AliasManifest,
    AliasStateManifest,
    EventRecord,
    Index,
    VersionManifest,
    file_name,
    manifest_name,
    training_file_name,
)
from registry.validation import explain

_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ForeignVersion:
    """A folder that PEFT saved, and its metadata. `number` None: the next one."""

    folder: Path
    source: str
    created_at: datetime
    created_by: str
    number: int | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    training_run: str | None = None


@dataclass(slots=True)
class ForeignAdapter:
    """`aliases`: version numbers by alias. `origin` distinguishes registries with equal names."""

    name: str
    created_at: datetime
    versions: list[ForeignVersion]
    origin: str = ""
    description: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)


def adapter_name(text: str) -> str:
    """A valid adapter name, derived from a foreign one. Raises CommandError."""
    name = _NOT_IN_NAMES.sub("-", text.lower()).strip("-._")[:64]
    try:
        return check_name(name)
    except InvalidReference:
        raise CommandError(f"no valid adapter name can be derived from {text!r}") from None


def why_not(folder: Path) -> str | None:
    """The reason why a folder can't be imported as an adapter; None if it may be one."""
    if not (folder / CONFIG_FILE).is_file():
        return f"has no {CONFIG_FILE}"
    if (folder / WEIGHTS_FILE).is_file():
        return None
    if (folder / PICKLE_FILE).is_file():
        return f"{PICKLE_FILE} is a pickle, which can run code: save it as safetensors"
    return f"has no {WEIGHTS_FILE}"


def export_entries(adapters: Sequence[ForeignAdapter], at: datetime) -> list[Entry]:
    """The files of an export that holds these adapters. Reads all of them once.

    Raises CommandError.
    """
    try:
        return _entries(adapters, at)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CommandError(f"this can't be imported: {where}: {explain(first)}") from error
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from error


def _entries(adapters: Sequence[ForeignAdapter], at: datetime) -> list[Entry]:
    documents: list[Entry] = []
    files: dict[str, list[Entry]] = {}
    events: list[EventRecord] = []
    for adapter in adapters:
        manifest = _manifest(adapter, files, at)
        documents.append(Entry(manifest_name(adapter.name), manifest.to_json()))
        events += _events(adapter, manifest)
    lines = b"".join(event.to_json(indent=None) for event in sorted(events, key=lambda e: e.at))
    index = Index(
        adapters={
            adapter.name: _hash_of(document)
            for adapter, document in zip(adapters, documents, strict=True)
        },
        events=blake3(lines).hexdigest(),
        files=tuple(sorted(files)),
    )
    contents = [entry for digest in sorted(files) for entry in files[digest]]
    return [Entry(INDEX, index.to_json()), *documents, Entry(EVENTS, lines), *contents]


def _manifest(
    adapter: ForeignAdapter, files: dict[str, list[Entry]], at: datetime
) -> AdapterManifest:
    """Versions with the same content are the first of them, under further numbers."""
    versions: dict[str, VersionManifest] = {}
    further: dict[str, list[int]] = {}
    numbers: dict[int, int] = {}
    for version in sorted(adapter.versions, key=lambda v: v.number or 0):
        digest, entries = _content(version.folder)
        content = _content_digest(version.folder)
        key = content or digest
        first = versions.setdefault(key, _version(version, digest, content))
        if first.digest == digest:
            files.setdefault(digest, entries)
        if version.number is not None and first.number is not None:
            numbers[version.number] = first.number
            if version.number != first.number:
                further.setdefault(key, []).append(version.number)
    aliases = [
        _alias(name, numbers[number], at)
        for name, number in sorted(adapter.aliases.items())
        if number in numbers
    ]
    return AdapterManifest(
        name=adapter.name,
        description=adapter.description,
        tags=adapter.tags,
        metadata=adapter.metadata,
        created_at=adapter.created_at,
        versions=tuple(
            version.model_copy(update={"further_numbers": tuple(further.get(key, ()))})
            for key, version in versions.items()
        ),
        aliases=tuple(aliases),
    )


def _content(folder: Path) -> tuple[str, list[Entry]]:
    hashed: list[tuple[str, int, str]] = []
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        hasher = blake3()
        size_bytes = 0
        with (folder / name).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                size_bytes += len(chunk)
                hasher.update(chunk)
        hashed.append((name, size_bytes, hasher.hexdigest()))
    digest = manifest_digest(hashed)
    entries = [Entry(file_name(digest, name), folder / name) for name, _, _ in hashed]
    beside = files_to_send(folder)
    return digest, entries + [Entry(training_file_name(digest, f.name), f) for f in beside]


def _content_digest(folder: Path) -> str | None:
    """The same for an adapter that was saved again; None for what the server will refuse."""
    try:
        return content_digest(folder)
    except (ValueError, KeyError, TypeError, OverflowError, InvalidAdapter, Truncated):
        return None


def _version(version: ForeignVersion, digest: str, content: str | None) -> VersionManifest:
    return VersionManifest(
        number=version.number,
        digest=digest,
        content_digest=content,
        source=version.source,
        created_at=version.created_at,
        created_by=version.created_by,
        description=version.description,
        tags=version.tags,
        metadata=version.metadata,
        training_run=version.training_run,
    )


def _alias(name: str, number: int, at: datetime) -> AliasManifest:
    state = AliasStateManifest(
        revision=1, weights={number: 1}, valid_from=at, actor="import", reason="imported"
    )
    return AliasManifest(name=name, states=(state,))


def _events(adapter: ForeignAdapter, manifest: AdapterManifest) -> Iterator[EventRecord]:
    """A registration event of each numbered version, with a stable identity."""
    for version in manifest.versions:
        if version.number is None:
            continue
        identity = f"{adapter.origin}\n{adapter.name}\n{version.number}\n{version.digest}"
        yield EventRecord(
            uid=blake3(identity.encode()).hexdigest()[:32],
            at=version.created_at,
            actor=version.created_by,
            kind=EventKind.VERSION_REGISTERED,
            adapter=adapter.name,
            to_version=version.number,
        )


def _hash_of(document: Entry) -> str:
    assert isinstance(document.content, bytes)
    return blake3(document.content).hexdigest()


def default_alias(adapter: ForeignAdapter, preferred: str | None) -> None:
    """A bare name means the preferred alias, or else the newest version."""
    numbers = [version.number for version in adapter.versions if version.number is not None]
    if DEFAULT_ALIAS not in adapter.aliases and numbers:
        adapter.aliases[DEFAULT_ALIAS] = adapter.aliases.get(preferred or "", max(numbers))
