"""Number of valid keys: a tenant makes its own, in the table that all servers read."""

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.errors import TooManyKeys
from registry.models import now
from registry.models.api_key import ApiKey
from registry.references import tenant_of

MAX_KEYS = 1000
"""Of one tenant."""


async def check_number_of_keys(session: AsyncSession, name: str) -> None:
    """Before a key of this name is added, under the lock of its tenant. Raises TooManyKeys."""
    if (tenant := tenant_of(name)) is None:
        return
    expires_at = col(ApiKey.expires_at)
    counted = select(func.count()).select_from(ApiKey)
    valid = counted.where(
        col(ApiKey.name).startswith(f"{tenant}~"),
        col(ApiKey.revoked_at).is_(None),
        or_(expires_at.is_(None), expires_at > now()),
    )
    if (await session.execute(valid)).scalar_one() >= MAX_KEYS:
        raise TooManyKeys(tenant, MAX_KEYS)
