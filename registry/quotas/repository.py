"""SQL of tenants' usage. Never commits: the caller owns the transaction."""

from datetime import datetime
from hashlib import blake2b

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.models import Adapter, PromptSet, Version, VersionState
from registry.models.registration import TenantRegistration

_WITHOUT_FILES = (VersionState.PURGED, VersionState.REJECTED)
_AFTER_TILDE = "\x7f"  # the character after the tilde between a tenant and its names


class QuotaRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock_tenant(self, tenant: str) -> None:
        """No other transaction checks this tenant's usage until this one ends.

        Only needed on PostgreSQL. Lock the adapter and files before.
        """
        if self._session.get_bind().dialect.name == "postgresql":
            digest = blake2b(f"tenant {tenant}".encode(), digest_size=8).digest()
            key = int.from_bytes(digest, "big", signed=True)
            await self._session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    async def storage_bytes(self, tenant: str) -> int:
        """Bytes of what it stores: files of versions, and prompts."""
        return await self._version_bytes(tenant) + await self._prompt_bytes(tenant)

    async def _prompt_bytes(self, tenant: str) -> int:
        summed = func.coalesce(func.sum(col(PromptSet.size_bytes)), 0)
        statement = select(summed).where(col(PromptSet.owner) == tenant)
        return int((await self._session.execute(statement)).scalar_one())

    async def _version_bytes(self, tenant: str) -> int:
        """Of all its versions with files; the same files in two adapters count twice."""
        name = col(Adapter.name)
        statement = (
            select(func.coalesce(func.sum(col(Version.size_bytes)), 0))
            .join(Adapter, col(Version.adapter_id) == col(Adapter.id))
            .where(name >= f"{tenant}~", name < f"{tenant}{_AFTER_TILDE}")
            .where(col(Version.state).not_in(_WITHOUT_FILES))
        )
        return int((await self._session.execute(statement)).scalar_one())

    async def registrations(self, tenant: str, since: datetime) -> int:
        at = col(TenantRegistration.at)
        statement = select(func.count()).where(col(TenantRegistration.tenant) == tenant, at > since)
        return (await self._session.execute(statement)).scalar_one()

    async def newest_registration(
        self, tenant: str, since: datetime, *, but: int
    ) -> datetime | None:
        """Time of the newest registration but so many newer ones; None if there are fewer."""
        at = col(TenantRegistration.at)
        statement = select(at).where(col(TenantRegistration.tenant) == tenant, at > since)
        ordered = statement.order_by(at.desc()).offset(but).limit(1)
        return (await self._session.execute(ordered)).scalar_one_or_none()

    async def add_registration(self, tenant: str, at: datetime) -> None:
        self._session.add(TenantRegistration(tenant=tenant, at=at))
        await self._session.flush()

    async def forget_registrations(self, tenant: str, until: datetime) -> None:
        old = delete(TenantRegistration).where(
            col(TenantRegistration.tenant) == tenant, col(TenantRegistration.at) <= until
        )
        await self._session.execute(old)
