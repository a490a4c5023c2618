"""Counts of what is in the registry and what is pending, as SQL."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.models import Adapter, Alias, Version, VersionState, now
from registry.models.job import UNFINISHED, Job, JobState
from registry.models.webhook import DeliveryState, Webhook, WebhookDelivery


@dataclass(frozen=True, slots=True)
class Inventory:
    """Contents of the registry. `versions` by state; states without a version are omitted.

    `store_bytes`: the files of all versions that are not purged, each content once.
    """

    adapters: int
    versions: Mapping[str, int]
    store_bytes: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """Pending work. `jobs` by state, unfinished only. `webhooks`: pending deliveries.

    `oldest_waiting`: since when the oldest queued job could have been started.
    """

    jobs: Mapping[str, int]
    oldest_job: datetime | None
    oldest_waiting: datetime | None
    webhooks: int


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """`version`: the number of the version with the largest weight."""

    adapter: str
    alias: str
    version: int


class CountRepository:
    """Queries on one session, all from indexes."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def inventory(self) -> Inventory:
        """Cost grows with the number of versions: about 50 ms for 100,000."""
        state = col(Version.state)
        by_state = await self._session.execute(select(state, func.count()).group_by(state))
        content = (
            select(func.max(col(Version.size_bytes)).label("size_bytes"))
            .where(state != VersionState.PURGED)
            .group_by(col(Version.digest))
            .subquery()
        )
        return Inventory(
            adapters=await self._one(select(func.count(col(Adapter.id)))),
            versions={row[0]: row[1] for row in by_state.all()},
            store_bytes=int(
                await self._one(select(func.coalesce(func.sum(content.c.size_bytes), 0)))
            ),
        )

    async def backlog(self) -> Backlog:
        """Cost grows with pending work, not with finished work."""
        state = col(Job.state)
        statement = (
            select(state, func.count(), func.min(col(Job.created_at)))
            .where(state.in_(sorted(UNFINISHED)))
            .group_by(state)
        )
        jobs = (await self._session.execute(statement)).all()
        pending = select(func.count()).where(
            col(WebhookDelivery.webhook_id).in_(select(col(Webhook.id))),
            col(WebhookDelivery.state) == DeliveryState.PENDING,
        )
        return Backlog(
            jobs={row[0]: row[1] for row in jobs},
            oldest_job=min((row[2] for row in jobs), default=None),
            oldest_waiting=await self._oldest_waiting(),
            webhooks=await self._one(pending),
        )

    async def _oldest_waiting(self) -> datetime | None:
        """A job between two attempts does not wait before its time has come."""
        since = func.coalesce(col(Job.next_attempt_at), col(Job.created_at))
        statement = select(func.min(since)).where(col(Job.state) == JobState.QUEUED, since <= now())
        found: datetime | None = (await self._session.execute(statement)).scalar_one()
        return found

    async def aliases(self, adapters: Collection[str], limit: int) -> list[AliasTarget]:
        """Where the aliases of these adapters point, by name."""
        statement = (
            select(col(Adapter.name), col(Alias.name), col(Version.number))
            .join(Alias, col(Alias.adapter_id) == col(Adapter.id))
            .join(Version, col(Alias.version_id) == col(Version.id))
            .where(col(Adapter.name).in_(sorted(adapters)))
            .order_by(col(Adapter.name), col(Alias.name))
            .limit(limit)
        )
        return [AliasTarget(*row) for row in (await self._session.execute(statement)).all()]

    async def _one(self, statement: "Select[int]") -> int:
        return (await self._session.execute(statement)).scalar_one()
