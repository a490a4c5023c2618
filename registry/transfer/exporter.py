"""Exporter: the registry as a tar, manifests of one snapshot first, then files from the store."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

from blake3 import blake3

from registry.database.engine import Database
from registry.errors import UnknownAdapter
from registry.ingest.pipeline import close_workspace, create_workspace
from registry.models import SERVABLE, Adapter, Version, VersionState, row_id
from registry.references import check_name
from registry.sources.disks.store_threads import ARCHIVES, STEPS, WORK
from registry.sources.threads import run_to_completion
from registry.storage.store import ArtifactStore, storage_errors
from registry.storage.stored_files import check_files
from registry.storage.tar import Entry, tar_chunks
from registry.storage.workspace import Workspace
from registry.transfer.format import EVENTS, INDEX, AdapterManifest, Index, file_name, manifest_name
from registry.transfer.repository import TransferRepository
from registry.transfer.serializers import (
    adapter_manifest,
    alias_manifests,
    event_record,
    version_manifest,
)


@dataclass
class _Draft:
    """Manifests written so far."""

    folder: Path
    adapters: dict[str, str] = field(default_factory=dict)  # hashes of manifests by name
    files: dict[str, str] = field(default_factory=dict)  # one reference per digest

    def write(self, manifest: AdapterManifest) -> None:
        content = manifest.to_json()
        path = self.folder / manifest_name(manifest.name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        self.adapters[manifest.name] = blake3(content).hexdigest()


class Exporter:
    """Writes manifests and events to a workspace first; the files are sent from the store."""

    def __init__(self, database: Database, store: ArtifactStore, base_model: str) -> None:
        self._database = database
        self._store = store
        self._path_of = store.path_of
        self._base_model = base_model

    async def export(self, names: Sequence[str] | None = None) -> AsyncIterator[bytes]:
        """The chunks of a tar with all adapters, or the named ones.

        All is checked before the first chunk is sent. Raises InvalidReference, UnknownAdapter,
        FilesMissing, FilesDamaged, StoreUnavailable, DatabaseUnavailable.
        """
        workspace = await create_workspace(self._store)
        try:
            with storage_errors("the export can't be written"):
                draft = _Draft(await STEPS.run(workspace.empty_folder))
            events = await self._write(draft, names)
            await ARCHIVES.run(partial(self._verify, draft))
            index = Index(
                base_model=self._base_model,
                adapters=draft.adapters,
                events=events,
                files=tuple(sorted(draft.files)),
            )
            chunks = tar_chunks(self._entries(draft, index))
        except BaseException:
            await close_workspace(workspace)
            raise
        return _stream(chunks, workspace)

    async def _write(self, draft: _Draft, names: Sequence[str] | None) -> str:
        """Write manifests and events; the events' hash."""
        wanted = None if names is None else sorted({check_name(name) for name in names})
        async with self._database.snapshot() as session:
            repository = TransferRepository(session)
            async for adapters in repository.adapters(wanted):
                await self._write_adapters(draft, repository, adapters)
                session.expunge_all()
            for name in wanted or ():
                if name not in draft.adapters:
                    raise UnknownAdapter(name)
            return await _write_events(draft.folder / EVENTS, repository, wanted)

    async def _write_adapters(
        self, draft: _Draft, repository: TransferRepository, adapters: Sequence[Adapter]
    ) -> None:
        ids = [row_id(adapter) for adapter in adapters]
        versions = await repository.versions(ids)
        parents = await repository.references({v.parent_id for v in versions if v.parent_id})
        bases = await repository.bases()
        further = await repository.further_numbers(map(row_id, versions))
        numbers = {row_id(version): version.number for version in versions}
        by_adapter = {id_: list(g) for id_, g in groupby(versions, key=lambda v: v.adapter_id)}
        history = groupby(await repository.history(ids), key=lambda row: row.adapter_id)
        aliases = {id_: alias_manifests(list(rows), numbers) for id_, rows in history}
        named = groupby(await repository.names(ids), key=lambda row: row.adapter_id)
        names = {id_: list(rows) for id_, rows in named}

        def write() -> None:
            for adapter in adapters:
                id_ = row_id(adapter)
                found = [
                    version_manifest(
                        version,
                        parents.get(version.parent_id or 0),
                        bases.get(version.base_id or 0),
                        further.get(row_id(version), ()),
                        has_files=self._note_files(draft, adapter.name, version),
                    )
                    for version in by_adapter.get(id_, ())
                ]
                of_adapter = aliases.get(id_, ()), names.get(id_, ())
                draft.write(adapter_manifest(adapter, found, *of_adapter))

        # 10,000 versions take two seconds, and the store may be slow: no request waits for them
        await run_to_completion(WORK.run(write))

    def _note_files(self, draft: _Draft, name: str, version: Version) -> bool:
        if version.state == VersionState.PURGED:
            return False
        there = self._path_of(version.digest).is_dir()
        if there:
            draft.files[version.digest] = f"{name}:{version.number}"
        elif version.state in SERVABLE:
            check_files(f"{name}:{version.number}", self._path_of(version.digest), version.digest)
        return there

    def _verify(self, draft: _Draft) -> None:
        for digest, reference in draft.files.items():
            check_files(reference, self._path_of(digest), digest)

    def _entries(self, draft: _Draft, index: Index) -> Iterator[Entry]:
        """Entries in an order that depends on names only."""
        yield Entry(INDEX, index.to_json())
        for name in sorted(draft.adapters):
            yield Entry(manifest_name(name), draft.folder / manifest_name(name))
        yield Entry(EVENTS, draft.folder / EVENTS)
        for digest in index.files:
            for file in sorted(self._path_of(digest).iterdir()):
                yield Entry(file_name(digest, file.name), file)


async def _write_events(
    path: Path, repository: TransferRepository, names: Sequence[str] | None
) -> str:
    hasher = blake3()
    after = 0
    await WORK.run(partial(_append, path, b""))
    while found := await repository.events(after, names):
        lines = b"".join(event_record(event).to_json(indent=None) for event in found)
        await WORK.run(partial(_append, path, lines))
        hasher.update(lines)
        after = found[-1].id
    return hasher.hexdigest()


def _append(path: Path, lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(lines)


async def _stream(chunks: Iterator[bytes], workspace: Workspace) -> AsyncIterator[bytes]:
    try:
        while chunk := await WORK.run(lambda: next(chunks, b"")):
            yield chunk
    finally:
        await close_workspace(workspace)
