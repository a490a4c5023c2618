"""Lifecycle service: state changes of versions, each one transaction with its event."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from registry.aliases.service import point
from registry.catalog.repository import RegistryRepository, get_adapter
from registry.catalog.types import PublishedVersion, Purge
from registry.catalog.unit_of_work import UnitOfWork, adapter_transaction
from registry.database.engine import Database
from registry.errors import (
    FilesMissing,
    UnknownVersion,
    VersionAliased,
    VersionInUse,
)
from registry.lifecycle.removal import FileRemoval, Removal
from registry.lifecycle.transitions import change_state
from registry.models import EventKind, Version, VersionState, row_id
from registry.references import parse_version, tenant_of
from registry.sources.disks.store_threads import WORK
from registry.storage.stored_files import check_files

MAX_REASON = 1024

UsageCheck = Callable[[int], Awaitable[bool]]
"""Whether requests hold or await the version with this row id, or an engine loads it."""


class LifecycleService:
    """Each call takes a version by adapter and number, and raises UnknownAdapter, UnknownVersion
    and TransitionRefused. A version that is already in the state is left unchanged."""

    def __init__(
        self, database: Database, removal: FileRemoval, path_of: Callable[[str], Path]
    ) -> None:
        self._database = database
        self._removal = removal
        self._path_of = path_of
        self.is_in_use: UsageCheck = _never_in_use

    async def deprecate(
        self, name: str, number: int, *, actor: str, reason: str | None = None
    ) -> PublishedVersion:
        """Keep serving it, with a warning in each response."""
        async with adapter_transaction(self._database, name, actor) as work:
            version = await work.version(number)
            await _transition(work, version, VersionState.DEPRECATED, reason)
            return await work.published_version(version)

    async def restore(
        self, name: str, number: int, *, actor: str, reason: str | None = None
    ) -> PublishedVersion:
        """Make it ready again. Raises FilesMissing, FilesDamaged, StoreUnavailable."""
        await self._verify_files(name, number)  # may take longer than a transaction should
        async with adapter_transaction(self._database, name, actor) as work:
            version = await work.version(number)
            if version.state == VersionState.PURGED:
                raise FilesMissing(work.reference(number))
            await _transition(work, version, VersionState.READY, reason)
            return await work.published_version(version)

    async def retire(
        self,
        name: str,
        number: int,
        *,
        actor: str,
        reason: str | None = None,
        move_aliases_to: int | None = None,
        force: bool = False,
    ) -> PublishedVersion:
        """Refuse new requests for it; running ones finish.

        Raises VersionAliased if an alias points at it, unless these are moved in the same
        transaction, or `force` leaves them as they are; requests for them are then refused.
        """
        async with adapter_transaction(self._database, name, actor) as work:
            version = await work.version(number)
            aliases = await work.aliases.aliases_of_version(row_id(version))
            other = None
            if aliases and move_aliases_to is not None:
                other = await work.version(move_aliases_to)
            if other is not None and other.number != version.number:
                await _move_aliases(work, aliases, version.number, other.number)
            elif aliases and not force:
                raise VersionAliased(work.reference(version.number), aliases)
            await _transition(work, version, VersionState.RETIRED, reason)
            return await work.published_version(version)

    async def quarantine(
        self, version_id_or_reference: int | str, reason: str, code: str, actor: str
    ) -> PublishedVersion:
        """Stop serving it, wherever aliases point, until it is restored.

        For versions found to be broken; `code` is for programs. A reference must name a version
        (`name:3`). Raises TransitionRefused only for versions that are not served anyway.
        """
        name, number = await self._identify(version_id_or_reference)
        async with adapter_transaction(self._database, name, actor) as work:
            version = await work.version(number)
            await _transition(work, version, VersionState.QUARANTINED, _storable(reason), code)
            return await work.published_version(version)

    async def purge(
        self, name: str, number: int, *, actor: str, reason: str | None = None
    ) -> Purge:
        """Delete its files, unless another version has the same; its row and number stay.

        A tenant must not learn that others have the same files: to it they count as freed once it
        has no version left with them.
        Raises VersionAliased, VersionInUse, StoreUnavailable.
        """
        digest = (await self._version(name, number)).digest
        removal = Removal.KEPT
        async with self._removal.reserved(digest, patient=True) as files:
            async with adapter_transaction(self._database, name, actor) as work:
                version = await work.version(number)
                await self._check_unused(work, version)
                await _transition(work, version, VersionState.PURGED, reason)
                published = await work.published_version(version)
                needed = await _files_are_needed(work, version)
                if needed and not await _files_are_visibly_needed(work, version):
                    removal = Removal.REMOVED
            if not needed:
                removal = await files.remove()
        size_bytes = {removal: version.size_bytes}
        freed, pending = (size_bytes.get(each, 0) for each in (Removal.REMOVED, Removal.PENDING))
        return Purge(published, freed, pending)

    async def _verify_files(self, name: str, number: int) -> None:
        version = await self._version(name, number)
        if version.state == VersionState.PURGED:
            raise FilesMissing(f"{name}:{number}")
        folder, reference = self._path_of(version.digest), f"{name}:{number}"
        await WORK.run(partial(check_files, reference, folder, version.digest))

    async def _version(self, name: str, number: int) -> Version:
        async with self._database.read_session() as session:
            repository = RegistryRepository(session)
            adapter = await get_adapter(repository, name)
            version = await repository.version(row_id(adapter), number)
        if version is None:
            raise UnknownVersion(name, number)
        return version

    async def _check_unused(self, work: UnitOfWork, version: Version) -> None:
        if aliases := await work.aliases.aliases_of_version(row_id(version)):
            raise VersionAliased(work.reference(version.number), aliases)
        if await self.is_in_use(row_id(version)):
            raise VersionInUse(work.reference(version.number))

    async def _identify(self, version: int | str) -> tuple[str, int]:
        if isinstance(version, str):
            return parse_version(version)
        async with self._database.read_session() as session:
            found = await RegistryRepository(session).version_with_id(version)
        if found is None:
            raise UnknownVersion("", version)
        return found[1], found[0].number


async def _never_in_use(version_id: int) -> bool:
    """Null check, without an engine."""
    return False


async def _files_are_needed(work: UnitOfWork, version: Version) -> bool:
    """Whether another version needs the files; stable until the transaction ends."""
    await work.repository.lock_files(version.digest)
    return await work.repository.uses_of_files(version.digest) > 0


async def _files_are_visibly_needed(work: UnitOfWork, version: Version) -> bool:
    """Whether a version visible to the actor needs the files."""
    tenant = tenant_of(work.actor)
    return await work.repository.uses_of_files(version.digest, tenant) > 0


_KINDS = {
    VersionState.READY: EventKind.VERSION_RESTORED,
    VersionState.DEPRECATED: EventKind.VERSION_DEPRECATED,
    VersionState.RETIRED: EventKind.VERSION_RETIRED,
    VersionState.QUARANTINED: EventKind.VERSION_QUARANTINED,
    VersionState.PURGED: EventKind.VERSION_PURGED,
}


async def _transition(
    work: UnitOfWork,
    version: Version,
    to: VersionState,
    reason: str | None,
    code: str | None = None,
) -> None:
    """Raises TransitionRefused."""
    kept = None if to is VersionState.READY else reason
    if to == version.state and kept in (None, version.state_reason):
        return
    change_state(version, to, work.reference(version.number), reason=kept, code=code)
    event_reason = f"{code}: {reason}"[:MAX_REASON] if code else reason
    await work.add_event(_KINDS[to], to_version=version.number, reason=event_reason)


def _storable(reason: str) -> str:
    """An exception's text, as any database can store it."""
    return reason.encode(errors="replace").decode().replace("\0", "?")[:MAX_REASON]


async def _move_aliases(work: UnitOfWork, aliases: Sequence[str], number: int, to: int) -> None:
    """Give the version's weight in each alias to another version."""
    for alias in aliases:
        current = await work.aliases.current(work.adapter_id, alias)
        if current is not None:
            weights = dict(current.weights)
            weights[to] = weights.get(to, 0) + weights.pop(number)
            await point(work, alias, weights, f"{work.reference(number)} retired", current)
