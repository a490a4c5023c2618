"""Quotas of tenants: registrations per hour, and stored bytes.

Both are counted in the database, so that all its servers agree.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from registry.database.engine import Database
from registry.errors import TenantLimit
from registry.errors.access import Limit
from registry.models import now
from registry.quotas.limits import NO_LIMITS, RefusalObserver, TenantLimits, null_refusal_observer
from registry.quotas.repository import QuotaRepository
from registry.quotas.usage import StoredUsage
from registry.sources.base import MAX_FIELDS_BYTES, FetchLimits

_HOUR = timedelta(hours=1)

ReadLimits = Callable[[AsyncSession, str], Awaitable[TenantLimits]]


async def read_no_limits(session: AsyncSession, tenant: str) -> TenantLimits:
    """Null limits, without tenants."""
    return NO_LIMITS


class TenantQuotas:
    """Raises TenantLimit at a limit. Adapters without a tenant have none."""

    def __init__(
        self,
        database: Database,
        tenant_of: Callable[[str], str | None] = lambda adapter: None,
        limits_in: ReadLimits = read_no_limits,
        refused: RefusalObserver = null_refusal_observer,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._tenant_of = tenant_of
        self._limits_in = limits_in
        self._refused = refused
        self._clock = clock

    async def begin_registration(self, adapter: str, size_bytes: int | None = None) -> None:
        """Count a registration before reading its files. `size_bytes`: their size, if known.

        Raises TenantLimit, DatabaseUnavailable.
        """
        if (tenant := self._tenant_of(adapter)) is None:
            return
        try:
            begin = partial(self._begin, tenant, size_bytes or 0)
            await self._database.run(begin, for_catalog=False)
        except TenantLimit as refusal:
            self._refused(tenant, refusal.limit)
            raise

    async def _begin(self, tenant: str, size_bytes: int, session: AsyncSession) -> None:
        limits = await self._limits_in(session, tenant)
        repository = QuotaRepository(session)
        await repository.lock_tenant(tenant)
        await self._check_before(repository, tenant, limits, size_bytes)
        await self._count(repository, tenant, limits)

    async def fetch_limits(self, adapter: str, limits: FetchLimits) -> FetchLimits:
        """These limits, and the tenant's room: an upper bound, as `_check_before` has a lower one.

        `check_storage` decides. Raises DatabaseUnavailable.
        """
        if (tenant := self._tenant_of(adapter)) is None:
            return limits
        async with self._database.read_session() as session:
            most = (await self._limits_in(session, tenant)).max_storage_bytes
            if most is None:
                return limits
            used = await QuotaRepository(session).storage_bytes(tenant)
        return replace(limits, tenant=tenant, tenant_bytes=max(most - used, 0) + MAX_FIELDS_BYTES)

    async def check_storage(self, session: AsyncSession, adapter: str) -> None:
        """Check after writing a version, in the same transaction. Raises TenantLimit.

        It locks the tenant: of two concurrent ones, the second counts what the first wrote.
        """
        if (tenant := self._tenant_of(adapter)) is not None:
            await self._check_storage(session, tenant, "version")

    async def check_prompts(self, session: AsyncSession, tenant: str) -> None:
        """As `check_storage`, after writing a set of prompts."""
        await self._check_storage(session, tenant, "set of prompts")

    async def _check_storage(self, session: AsyncSession, tenant: str, added: str) -> None:
        most = (await self._limits_in(session, tenant)).max_storage_bytes
        if most is None:
            return
        repository = QuotaRepository(session)
        await repository.lock_tenant(tenant)
        if (used := await repository.storage_bytes(tenant)) > most:
            self._refused(tenant, Limit.STORAGE_BYTES)
            raise _too_much(tenant, most, f"with this {added} it would use {used}")

    async def _check_before(
        self, repository: QuotaRepository, tenant: str, limits: TenantLimits, size_bytes: int
    ) -> None:
        """A lower bound: a body is larger than its files, and known content takes no space.
        `check_storage` decides.
        """
        if (most := limits.max_storage_bytes) is None:
            return
        used = await repository.storage_bytes(tenant)
        at_least = max(size_bytes - MAX_FIELDS_BYTES, 1)
        if used + at_least > most:
            raise _too_much(tenant, most, f"it uses {used}, and this needs {at_least} or more")

    async def _count(self, repository: QuotaRepository, tenant: str, limits: TenantLimits) -> None:
        at, most = self._clock(), limits.max_registrations_per_hour
        since = at - _HOUR
        await repository.forget_registrations(tenant, since)
        if most is not None:
            await self._check_rate(repository, tenant, most, at)
        await repository.add_registration(tenant, at)

    async def _check_rate(
        self, repository: QuotaRepository, tenant: str, most: int, at: datetime
    ) -> None:
        detail = f"{most} registrations in an hour are what the tenant {tenant} may ask for"
        if most == 0:
            raise TenantLimit(Limit.REGISTRATIONS_PER_HOUR, detail)
        since = at - _HOUR
        last = await repository.newest_registration(tenant, since, but=most - 1)
        if last is not None:
            wait_seconds = max(1, math.ceil((last - since).total_seconds()))
            raise TenantLimit(Limit.REGISTRATIONS_PER_HOUR, detail, wait_seconds)


async def stored_usage(session: AsyncSession, tenant: str) -> StoredUsage:
    repository = QuotaRepository(session)
    return StoredUsage(
        await repository.storage_bytes(tenant),
        await repository.registrations(tenant, now() - _HOUR),
    )


def _too_much(tenant: str, most: int, why: str) -> TenantLimit:
    detail = f"the tenant {tenant} may keep {most} bytes of adapters and prompts: {why}"
    return TenantLimit(Limit.STORAGE_BYTES, detail)
