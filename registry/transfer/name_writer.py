"""Name writer: the served names of an import, within its transaction."""

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.client_address import client_address
from registry.catalog.repository import RegistryRepository
from registry.catalog.unit_of_work import UnitOfWork
from registry.errors import NameReserved, NameTaken, TooManyNames, UnknownAlias, UnknownVersion
from registry.names.grammar import check_served_name
from registry.names.repository import NameRepository
from registry.names.service import MAX_NAMES, check_not_served, owner_of, set_name
from registry.references import PLATFORM, AdapterReference
from registry.transfer.format import NameManifest
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


async def check_names(
    session: AsyncSession, plans: Sequence[AdapterPlan], reserved: Collection[str]
) -> None:
    """What `write_names` would raise, with nothing written: for a dry run."""
    names = NameRepository(session)
    made = {plan.manifest.name for plan in plans if not plan.is_empty}
    taken: dict[tuple[str, str], str] = {}
    for plan in plans:
        adapter = plan.manifest.name
        if adapter not in made:
            continue
        await check_not_served(names, adapter)
        own = [] if plan.local is None else await names.of_adapter(plan.local.id)
        here = {row.name for row in own}
        for named in plan.manifest.names:
            if (name := check_served_name(named.name)) in reserved:
                raise NameReserved(name)
            if name in here:
                continue
            owner = owner_of(adapter)
            if owner == PLATFORM and (name in made or await names.adapters([name])):
                raise NameTaken(name, "an adapter")
            if not _has_target(plan, named):
                continue
            found = await names.find(owner, name)
            holder = taken.get((owner, name)) if found is None else found[1]
            if holder is not None:
                raise NameTaken(name, holder)
            taken[owner, name] = adapter
            here.add(name)
            if len(here) > MAX_NAMES:
                raise TooManyNames(adapter, MAX_NAMES)


def _has_target(plan: AdapterPlan, named: NameManifest) -> bool:
    here = plan.local
    if named.version is not None:
        known = {*plan.added, *plan.further, *((*here.versions, *here.further) if here else ())}
        return named.version in known
    if named.alias is not None:
        copied = {alias.name for alias in plan.copied}
        return named.alias in copied or (here is not None and named.alias in here.aliases)
    return True
