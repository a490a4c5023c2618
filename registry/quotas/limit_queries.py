"""Queries of tenants' limits."""

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.grants import get_tenant
from registry.database.engine import Database
from registry.models.tenant import Tenant
from registry.quotas.limits import TenantLimits

LIMIT_FIELDS = tuple(TenantLimits.__slots__)


def limits_of(tenant: Tenant) -> TenantLimits:
    return TenantLimits(**{field: getattr(tenant, field) for field in LIMIT_FIELDS})


async def read_limits(session: AsyncSession, tenant: str) -> TenantLimits:
    """Limits of a tenant, within a transaction. Raises UnknownTenant."""
    return limits_of(await get_tenant(session, tenant))


async def all_limits(database: Database) -> dict[str, TenantLimits]:
    """Limits of every tenant that has any. Raises DatabaseUnavailable."""
    has_any = or_(*(col(getattr(Tenant, field)).is_not(None) for field in LIMIT_FIELDS))
    async with database.read_session() as session:
        tenants = (await session.execute(select(Tenant).where(has_any))).scalars()
        return {tenant.name: limits_of(tenant) for tenant in tenants}
