"""Name writer: the served names of an import, within its transaction."""

from collections.abc import Collection, Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.client_address import client_address
from registry.catalog.repository import RegistryRepository
from registry.catalog.unit_of_work import UnitOfWork
from registry.errors import NameReserved, UnknownAlias, UnknownVersion
from registry.names.grammar import check_served_name
from registry.names.repository import NameRepository
from registry.names.service import check_not_served, owner_of, set_name
from registry.references import AdapterReference
from registry.transfer.plan import AdapterPlan


async def write_names(
    session: AsyncSession,
    plans: Iterable[AdapterPlan],
    reserved: Collection[str],
    actor: str,
) -> None:
    """A name that the adapter has already stays what it is; one without its version is left out.
    The event of a new adapter's import stands for its names'.

    Raises InvalidServedName, NameReserved, NameTaken, TooManyNames.
    """
    names = NameRepository(session)
    for plan in plans:
        manifest = plan.manifest
        adapter = await RegistryRepository(session).adapter(manifest.name)
        if adapter is None:
            continue
        await check_not_served(names, manifest.name)
        work = UnitOfWork(session, adapter, actor, client_address())
        for named in manifest.names:
            if (name := check_served_name(named.name)) in reserved:
                raise NameReserved(name)
            found = await names.find(owner_of(manifest.name), name)
            if found is not None and found[1] == manifest.name:
                continue
            reference = AdapterReference(manifest.name, named.alias, named.version)
            try:
                await set_name(work, name, reference, logged=plan.local is not None)
            except (UnknownVersion, UnknownAlias):
                continue
