"""Queries on tenants and grants, for use inside other services' transactions."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.errors import UnknownTenant
from registry.models import Adapter, row_id
from registry.models.tenant import AdapterGrant, Tenant
from registry.references import tenant_of


async def get_tenant(session: AsyncSession, name: str, *, lock: bool = False) -> Tenant:
    """`lock`: no other transaction changes it before this one ends. Raises UnknownTenant."""
    statement = select(Tenant).where(col(Tenant.name) == name)
    if lock:
        statement = statement.with_for_update()
    tenant = (await session.execute(statement)).scalar_one_or_none()
    if tenant is None:
        raise UnknownTenant(name)
    return tenant


async def check_tenant_exists(session: AsyncSession, name: str) -> None:
    """Check the tenant in the name of a new adapter or key. Raises UnknownTenant."""
    if (tenant := tenant_of(name)) is not None:
        await get_tenant(session, tenant, lock=True)


async def can_see(session: AsyncSession, tenant: str | None, adapter: Adapter) -> bool:
    """Whether the tenant may see the adapter now; None: the platform, which sees all."""
    if tenant is None or tenant_of(adapter.name) == tenant:
        return True
    return await session.get(AdapterGrant, (row_id(adapter), tenant)) is not None


async def granted_adapters(session: AsyncSession, tenant: str | None) -> frozenset[str]:
    """Names of others' adapters that the tenant may use."""
    if tenant is None:
        return frozenset()
    names = select(col(Adapter.name)).join(AdapterGrant).where(col(AdapterGrant.tenant) == tenant)
    return frozenset((await session.execute(names)).scalars())
