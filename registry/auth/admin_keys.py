"""Admin keys: at least one of the platform's has to stay."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.scopes import Scope
from registry.errors import LastAdminKey
from registry.models import now
from registry.models.api_key import ApiKey
from registry.references import tenant_of


async def lock_platform_keys(session: AsyncSession) -> Sequence[ApiKey]:
    """In one order, so that two never wait for each other. Those of tenants may be many more."""
    platforms = select(ApiKey).where(~col(ApiKey.name).contains("~")).order_by(col(ApiKey.id))
    return (await session.execute(platforms.with_for_update())).scalars().all()


def check_not_last_admin(keys: Sequence[ApiKey], leaving: ApiKey) -> None:
    """Without an admin key no other could be created over REST."""
    left = [
        key
        for key in keys
        if key.id != leaving.id and _is_platform_admin(key) and key.is_valid(now())
    ]
    if _is_platform_admin(leaving) and not left:
        raise LastAdminKey


def _is_platform_admin(key: ApiKey) -> bool:
    """Whether it may create any other key."""
    return Scope.ADMIN in key.scopes and tenant_of(key.name) is None
