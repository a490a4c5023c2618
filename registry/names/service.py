"""Name service: sets and removes served names, each with its event; lists an adapter's."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from sqlalchemy.exc import IntegrityError

from registry.auth.visibility import Reader
from registry.catalog.repository import RegistryRepository, get_adapter
from registry.catalog.types import ServedReference
from registry.catalog.unit_of_work import UnitOfWork, adapter_transaction
from registry.database.change_counter import SERVED_NAMES
from registry.database.engine import Database
from registry.errors import (
    NameReserved,
    NameTaken,
    TooManyNames,
    UnknownAlias,
    UnknownServedName,
)
from registry.inspection.base_identity import BaseIdentity
from registry.models import EventKind, ServedName, row_id
from registry.names.grammar import check_served_name, normalize_served_name
from registry.names.repository import NameRepository
from registry.references import PLATFORM, AdapterReference, check_alias, tenant_of

MAX_NAMES = 32
"""Of one adapter."""


class NameService:
    """An adapter's served names belong to its tenant, or to the platform."""

    def __init__(
        self, database: Database, base: BaseIdentity, *, reserved_names: frozenset[str]
    ) -> None:
        self._database = database
        self._base = base
        self._reserved = reserved_names

    async def all(self, adapter: str) -> Sequence[ServedName]:
        """By name. Raises UnknownAdapter."""
        async with self._database.read_session() as session:
            found = await get_adapter(RegistryRepository(session), adapter)
            return await NameRepository(session).of_adapter(row_id(found))

    async def served(self, after: str, limit: int, reader: Reader | None) -> list[ServedReference]:
        """The next names that a reader can use here, by name, as references."""
        async with self._database.read_session() as session:
            served = await NameRepository(session).served(
                after=after, limit=limit, reader=reader, base=self._base
            )
        return [ServedReference(*row) for row in served]

    async def has(self, text: str, reader: Reader | None) -> bool:
        """Whether it is a served name to a reader, servable or not."""
        if (name := normalize_served_name(text)) is None:
            return False
        owners = {PLATFORM} if reader is None else {PLATFORM, reader.tenant}
        async with self._database.read_session() as session:
            return await NameRepository(session).has(name, owners, reader)

    async def find(self, text: str, tenant: str | None) -> AdapterReference | None:
        """What it means among the tenant's own names, or the platform's."""
        if (name := normalize_served_name(text)) is None:
            return None
        async with self._database.read_session() as session:
            found = await NameRepository(session).find(tenant or PLATFORM, name)
        return found and AdapterReference(found[1], found[0].alias, found[0].version)

    def check(self, text: str) -> str:
        """The form in which it would be stored. Raises InvalidServedName, NameReserved."""
        name = check_served_name(text)
        if name in self._reserved:
            raise NameReserved(name)
        return name

    async def set(self, text: str, reference: AdapterReference, *, actor: str) -> ServedName:
        """Let a name mean a reference; if it means another one of the adapter, change that.

        Raises InvalidServedName, NameReserved, NameTaken, TooManyNames, UnknownAdapter,
        UnknownAlias, UnknownVersion.
        """
        name = self.check(text)
        try:
            async with self._change(reference.adapter, actor) as work:
                return await set_name(work, name, reference)
        except IntegrityError:  # PostgreSQL: another adapter took it meanwhile
            raise NameTaken(name, "another adapter") from None

    async def remove(self, adapter: str, text: str, *, actor: str) -> None:
        """Raises InvalidServedName, UnknownAdapter, UnknownServedName."""
        name = check_served_name(text)
        async with self._change(adapter, actor) as work:
            names = NameRepository(work.session)
            found = await names.find(owner_of(adapter), name)
            if found is None or found[1] != adapter:
                raise UnknownServedName(adapter, name)
            row, _ = found
            await names.remove(row.owner, row.name)
            await work.add_event(
                EventKind.NAME_REMOVED,
                alias=row.alias,
                from_version=row.version,
                data={"name": name},
            )

    def _change(self, adapter: str, actor: str) -> AbstractAsyncContextManager[UnitOfWork]:
        return adapter_transaction(self._database, adapter, actor, changes=SERVED_NAMES)


async def check_not_served(names: NameRepository, adapter: str) -> None:
    """Check that no adapter is added whose name is a served name. Raises NameTaken."""
    if tenant_of(adapter) is not None:
        return
    await names.lock_platform(alone=False)
    if (holder := await names.holder(PLATFORM, adapter)) is not None:
        raise NameTaken(adapter, holder)


async def set_name(
    work: UnitOfWork, name: str, reference: AdapterReference, *, logged: bool = True
) -> ServedName:
    """Within a unit of work; `name` was checked. `logged` False: another event stands for it.

    Raises NameTaken, TooManyNames, UnknownAlias, UnknownVersion, InvalidReference.
    """
    names, owner = NameRepository(work.session), owner_of(reference.adapter)
    if owner == PLATFORM:
        await names.lock_platform(alone=True)
        if await names.adapters([name]):
            raise NameTaken(name, "an adapter")
    version = await _find_target(work, reference)
    found = await names.find(owner, name)
    if found is None:
        row, before = await _new(work, owner, name), None
    else:
        row, holder = found
        if holder != work.adapter.name:
            raise NameTaken(name, holder)
        if (row.alias, row.version) == (reference.alias, version):
            return row
        before = row.version
    row.alias, row.version = reference.alias, version
    await names.add(row)
    if logged:
        await work.add_event(
            EventKind.NAME_SET,
            alias=row.alias,
            from_version=before,
            to_version=row.version,
            data={"name": name},
        )
    return row


async def _new(work: UnitOfWork, owner: str, name: str) -> ServedName:
    """Raises TooManyNames."""
    if await NameRepository(work.session).count(work.adapter_id) >= MAX_NAMES:
        raise TooManyNames(work.adapter.name, MAX_NAMES)
    return ServedName(owner=owner, name=name, adapter_id=work.adapter_id, created_by=work.actor)


async def _find_target(work: UnitOfWork, reference: AdapterReference) -> int | None:
    """The own number of the version, if it is one. Raises UnknownVersion, UnknownAlias."""
    if reference.version is not None:
        return (await work.version(reference.version)).number
    if reference.alias is not None:
        alias = check_alias(reference.alias)
        if await work.aliases.current(work.adapter_id, alias) is None:
            raise UnknownAlias(work.adapter.name, alias)
    return None


def owner_of(adapter: str) -> str:
    """The tenant whose names an adapter's are, or the platform."""
    return tenant_of(adapter) or PLATFORM
