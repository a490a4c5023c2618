"""What other services ask of tenants, within their own transactions."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.errors import UnknownTenant
from registry.models import Adapter, row_id
from registry.models.tenant import AdapterGrant, Tenant
from registry.references import tenant_of


async def get_tenant(session: AsyncSession, name: str, *, lock: bool = False) -> Tenant:
    """`lock`: nobody changes it before this is committed. Raises UnknownTenant."""
    statement = select(Tenant).where(col(Tenant.name) == name)
    if lock:
        statement = statement.with_for_update()
    tenant = (await session.execute(statement)).scalar_one_or_none()
    if tenant is None:
        raise UnknownTenant(name)
    return tenant


async def check_tenant_exists(session: AsyncSession, name: str) -> None:
    """Of the name of an adapter or key that is about to be. Raises UnknownTenant."""
    if (tenant := tenant_of(name)) is not None:
        await get_tenant(session, tenant, lock=True)


async def can_see(session: AsyncSession, tenant: str | None, adapter: Adapter) -> bool:
    """Whether a tenant may see it now; None: the platform, which sees all."""
    if tenant is None or tenant_of(adapter.name) == tenant:
        return True
    return await session.get(AdapterGrant, (row_id(adapter), tenant)) is not None


async def granted_adapters(session: AsyncSession, tenant: str | None) -> frozenset[str]:
    """The adapters of others that it may use."""
    if tenant is None:
        return frozenset()
    names = select(col(Adapter.name)).join(AdapterGrant).where(col(AdapterGrant.tenant) == tenant)
    return frozenset((await session.execute(names)).scalars())
