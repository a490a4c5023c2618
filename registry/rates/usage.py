"""Rate usage: what each key and tenant with a limit has used of it in the last minute."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_, select
from sqlmodel import col

from registry.auth.rate_limits import RateLimits, rates_of
from registry.database.engine import Database
from registry.database.pagination import Page, name_of, number_of, page_of
from registry.models import row_id
from registry.models.api_key import ApiKey
from registry.models.tenant import Tenant
from registry.rates.caller_rates import UNITS, Subject, Unit
from registry.rates.windows import RateWindows


@dataclass(frozen=True, slots=True)
class UsedRate:
    """`most` may be used in a minute; all of it is free after `reset_seconds` without requests."""

    most: int
    used: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class SubjectUsage:
    """`rates`: of the units that are limited."""

    name: str
    rates: dict[Unit, UsedRate]


class RateUsage:
    """Where servers count together it is what all of them counted, else what this one did."""

    def __init__(self, database: Database, windows: RateWindows) -> None:
        self._database = database
        self._windows = windows

    async def of_keys(
        self, *, limit: int, page_token: str | None, tenant: str | None
    ) -> Page[SubjectUsage]:
        """Valid or expired keys with a limit, the oldest first: all, or a tenant's."""
        statement = select(ApiKey).where(
            col(ApiKey.id) > number_of(page_token), col(ApiKey.revoked_at).is_(None)
        )
        if tenant is not None:
            statement = statement.where(col(ApiKey.name).startswith(f"{tenant}~", autoescape=True))
        limited = statement.where(_is_limited(ApiKey)).order_by(col(ApiKey.id)).limit(limit + 1)
        async with self._database.read_session() as session:
            rows = (await session.execute(limited)).scalars().all()
        page = page_of(rows, limit, row_id)
        return Page(await self._read_usage(page.items, Subject.of_key), page.next_token)

    async def of_tenants(
        self, *, limit: int, page_token: str | None, tenant: str | None
    ) -> Page[SubjectUsage]:
        """Tenants with a limit, by name: all, or one."""
        statement = select(Tenant).where(col(Tenant.name) > name_of(page_token))
        if tenant is not None:
            statement = statement.where(col(Tenant.name) == tenant)
        limited = statement.where(_is_limited(Tenant)).order_by(col(Tenant.name)).limit(limit + 1)
        async with self._database.read_session() as session:
            rows = (await session.execute(limited)).scalars().all()
        page = page_of(rows, limit, lambda row: row.name)
        return Page(await self._read_usage(page.items, Subject.of_tenant), page.next_token)

    async def _read_usage(
        self,
        rows: Sequence[ApiKey] | Sequence[Tenant],
        subject_of: Callable[[str, RateLimits], Subject],
    ) -> list[SubjectUsage]:
        subjects = [(row.name, subject_of(row.name, rates_of(row) or RateLimits())) for row in rows]
        limits = [limit for _, each in subjects for limit in each.limits_by_key().items()]
        await self._windows.refresh(limits)
        return [SubjectUsage(name, await self._used_by(each)) for name, each in subjects]

    async def _used_by(self, subject: Subject) -> dict[Unit, UsedRate]:
        used: dict[Unit, UsedRate] = {}
        for unit in UNITS:
            if (most := subject.most(unit)) is not None:
                state = await self._windows.state(subject.key(unit), most)
                used[unit] = UsedRate(most, state.used, state.reset_seconds)
        return used


def _is_limited(table: type[ApiKey] | type[Tenant]) -> ColumnElement[bool]:
    return or_(
        col(table.max_requests_per_minute).is_not(None),
        col(table.max_tokens_per_minute).is_not(None),
        col(table.max_bytes_per_minute).is_not(None),
    )
