"""Importer: verifies an export completely, then applies it in one transaction, or not at all."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from sqlalchemy.exc import IntegrityError

from registry.catalog.repository import RegistryRepository
from registry.database.engine import Database
from registry.errors import (
    DatabaseUnavailable,
    ImportConflict,
    InvalidAdapter,
    NameReserved,
    StoreUnavailable,
)
from registry.ingest.pipeline import new_workspace
from registry.inspection.base_identity import BaseIdentity
from registry.inspection.inspector import Inspection
from registry.inspection.training_files import FOLDER as TRAINING_FOLDER
from registry.lifecycle.removal import FileRemoval
from registry.models import VersionState
from registry.names.repository import NameRepository
from registry.settings import MAX_ALIASES
from registry.sources.beside import drop_large_files, unread_remarks
from registry.sources.disks.store_threads import ARCHIVES, STEPS, WORK
from registry.sources.threads import run_to_completion
from registry.storage.file_locks import FileLock
from registry.storage.presence import stored_of
from registry.storage.store import ArtifactStore, storage_errors
from registry.transfer.name_writer import check_names, write_names
from registry.transfer.plan import AdapterPlan, ImportOptions, plan_adapter
from registry.transfer.report import CheckedFiles, ImportReport, refusal_of, report_of
from registry.transfer.repository import TransferRepository
from registry.transfer.staging import Stage, check_export
from registry.transfer.stream_reader import unpack_stream
from registry.transfer.unpack import ArchiveLimits
from registry.transfer.writer import ImportWriter

_ATTEMPTS = 5

Inspect = Callable[[Path, Sequence[tuple[str, str]]], Inspection]


class Importer:
    """One import at a time; requests continue meanwhile."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        removal: FileRemoval,
        inspect: Inspect,
        base: BaseIdentity,
        *,
        reserved_names: frozenset[str],
        max_bytes: int,
        max_aliases: int = MAX_ALIASES,
    ) -> None:
        self._database = database
        self._store = store
        self._removal = removal
        self._inspect = inspect
        self._base = base
        self._reserved_names = reserved_names
        self._max_bytes = max_bytes
        self._max_aliases = max_aliases

    async def receive(
        self, chunks: AsyncIterator[bytes], options: ImportOptions, *, actor: str
    ) -> ImportReport:
        """Import a tar received in chunks. A failure leaves everything unchanged.

        Raises InvalidArchive, SourceTooLarge, InvalidAdapter, ImportConflict, NameReserved,
        VersionNotServable, StoreUnavailable, DatabaseUnavailable.
        """
        limits = ArchiveLimits(self._max_bytes, self._store.limits.max_bytes)
        async with new_workspace(self._store) as workspace:
            with storage_errors("the archive can't be kept"):
                folder = await STEPS.run(workspace.empty_folder)
                unpacked = await unpack_stream(chunks, folder, limits)
                stage = await ARCHIVES.run(partial(check_export, unpacked, self._store.has))
                return await self._import(stage, options, actor)

    async def _import(self, stage: Stage, options: ImportOptions, actor: str) -> ImportReport:
        for manifest in stage.manifests:
            if manifest.name in self._reserved_names:
                raise NameReserved(manifest.name)
        async with self._database.read_session() as session:
            plans = await self._plan(TransferRepository(session), stage, options)
        checked = await ARCHIVES.run(partial(self._check_files, stage, plans))
        if checked.refused and not options.skip_invalid:
            raise refusal_of(plans, checked.refused)
        if options.dry_run:
            return await self._report(stage, options, checked)
        moved: list[str] = []
        try:
            move = partial(self._move_files, stage, checked, moved)
            await run_to_completion(ARCHIVES.run(move))
            return await self._write(stage, options, checked, actor)
        except BaseException:
            await run_to_completion(self._discard(moved))
            raise

    # ---- planning ------------------------------------------------------------------------

    async def _plan(
        self,
        repository: TransferRepository,
        stage: Stage,
        options: ImportOptions,
        skipped: Sequence[str] = (),
        *,
        lock: bool = False,
    ) -> list[AdapterPlan]:
        """Raises ImportConflict, TooManyAliases, UnknownTenant."""
        local = await repository.local((m.name for m in stage.manifests), lock=lock)
        plans: list[AdapterPlan] = []
        for manifest in stage.manifests:
            plan = plan_adapter(
                manifest,
                local.get(manifest.name),
                replace_aliases=options.replace_aliases,
                skipped=skipped,
            )
            plan.check_number_of_aliases(self._max_aliases)
            plans.append(plan)
            await asyncio.sleep(0)  # others have their turns
        if conflicts := [conflict for plan in plans for conflict in plan.conflicts]:
            raise ImportConflict(conflicts)
        made = (plan.manifest.name for plan in plans if plan.local is None and not plan.is_empty)
        await repository.check_tenants(made, lock=lock)
        return plans

    async def _report(
        self, stage: Stage, options: ImportOptions, checked: CheckedFiles
    ) -> ImportReport:
        async with self._database.read_session() as session:
            repository = TransferRepository(session)
            plans = await self._plan(repository, stage, options, tuple(checked.refused))
            await check_names(session, plans, self._reserved_names)
            for plan in plans:
                plan.check_moves()
        return report_of(plans, checked)

    # ---- files ---------------------------------------------------------------------------

    def _check_files(self, stage: Stage, plans: Sequence[AdapterPlan]) -> CheckedFiles:
        """Inspect the files of new versions; known ones were inspected when they were added."""
        checked = CheckedFiles()
        added = {v.digest: v for plan in plans for v in plan.added.values()}
        for digest, version in added.items():
            folder = stage.files_of(digest)
            if not folder.is_dir():
                folder = self._store.path_of(digest)
            if not folder.is_dir() or version.state == VersionState.PURGED:
                continue
            try:
                unread = drop_large_files(folder, self._store.limits.max_training_file_bytes)
                checked.inspections[digest] = self._inspect(folder, unread_remarks(unread))
            except InvalidAdapter as error:
                if version.needs_files:  # else it is imported without: it is not served anyway
                    checked.refused[digest] = error
        return checked

    def _move_files(self, stage: Stage, checked: CheckedFiles, moved: list[str]) -> None:
        """Move files to the store, not yet visible. `moved`: digests of those that are new there,
        also where it fails.
        """
        for digest in checked.inspections:
            folder = stage.files_of(digest)
            if folder.is_dir():
                shutil.rmtree(folder / TRAINING_FOLDER, ignore_errors=True)
                moved.append(digest)  # before, as a part of it may fail
                if not self._store.adopt(folder, digest):
                    moved.pop()

    async def _discard(self, digests: Sequence[str]) -> None:
        """Remove files that no version needs; what can't be removed is garbage, found later."""
        with suppress(StoreUnavailable):
            for digest in digests:
                await self._removal.remove(digest)

    # ---- writing -------------------------------------------------------------------------

    async def _write(
        self, stage: Stage, options: ImportOptions, checked: CheckedFiles, actor: str
    ) -> ImportReport:
        async with self._without_removals():
            stored = await stored_of(self._store, checked.inspections.keys())
            for _ in range(_ATTEMPTS):
                try:
                    return await self._write_once(stage, options, checked, stored, actor)
                except IntegrityError:  # PostgreSQL: one of the adapters was created concurrently
                    continue
        raise DatabaseUnavailable("too many concurrent changes: try again")

    @asynccontextmanager
    async def _without_removals(self) -> AsyncIterator[None]:
        """No files are removed during the block. Raises StoreUnavailable."""
        with storage_errors():
            lock = await WORK.run(self._store.removals.prevent, FileLock.release)
        try:
            yield
        finally:
            await run_to_completion(STEPS.finish(lock.release))

    async def _write_once(
        self,
        stage: Stage,
        options: ImportOptions,
        checked: CheckedFiles,
        stored: Set[str],
        actor: str,
    ) -> ImportReport:
        async with self._database.transaction() as session:
            repository = TransferRepository(session)
            await repository.lock_imports()
            plans = await self._plan(repository, stage, options, tuple(checked.refused), lock=True)
            # after its adapters, as each change of a name; before it adds any, as all that do
            await NameRepository(session).lock_platform(alone=True)
            report = report_of(plans, checked)
            changed = [plan for plan in plans if not plan.is_empty]
            writer = ImportWriter(session, changed, checked.inspections, self._base, actor)
            await writer.write_adapters()
            await RegistryRepository(session).lock_all_files()
            _check_presence(changed, checked, stored)
            await writer.write_versions()
            await writer.write_aliases()
            report.events_added = await writer.write_events(stage.events())
            report.orphans = writer.orphans
            await write_names(session, plans, self._reserved_names, actor)
        return report


def _check_presence(plans: Sequence[AdapterPlan], checked: CheckedFiles, stored: Set[str]) -> None:
    """Check that nothing the plan depends on was purged or added meanwhile."""
    for plan in plans:
        for number, version in plan.added.items():
            if version.digest in checked.inspections:
                missing = version.digest not in stored
            else:
                missing = version.needs_files
            if missing:
                raise ImportConflict([f"{plan.manifest.name}:{number} changed meanwhile"])
