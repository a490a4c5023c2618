"""SQL of webhooks and their outbox."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.models import row_id
from registry.models.webhook import DeliveryState, Webhook, WebhookDelivery

_PENDING = col(WebhookDelivery.state) == DeliveryState.PENDING


class WebhookRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, row: Webhook | WebhookDelivery) -> None:
        self._session.add(row)
        await self._session.flush()

    async def add_all(self, rows: Iterable[WebhookDelivery]) -> None:
        self._session.add_all(rows)
        await self._session.flush()

    async def webhook(self, webhook_id: int) -> Webhook | None:
        return await self._session.get(Webhook, webhook_id)

    async def lock_webhook(self, webhook_id: int) -> Webhook | None:
        """The webhook, locked until this transaction ends."""
        statement = select(Webhook).where(col(Webhook.id) == webhook_id).with_for_update()
        return (await self._session.execute(statement)).scalar_one_or_none()

    async def webhooks(self, *, after: int, limit: int) -> Sequence[Webhook]:
        statement = select(Webhook).where(col(Webhook.id) > after)
        ordered = statement.order_by(col(Webhook.id)).limit(limit)
        return (await self._session.execute(ordered)).scalars().all()

    async def remove(self, webhook_id: int) -> None:
        """With its deliveries."""
        await self._session.execute(delete(Webhook).where(col(Webhook.id) == webhook_id))

    async def count_pending(self, webhook_ids: Sequence[int]) -> dict[int, int]:
        """Number of pending deliveries by webhook."""
        statement = (
            select(col(WebhookDelivery.webhook_id), func.count())
            .where(_PENDING, col(WebhookDelivery.webhook_id).in_(webhook_ids))
            .group_by(col(WebhookDelivery.webhook_id))
        )
        rows = (await self._session.execute(statement)).all()
        return {row[0]: row[1] for row in rows}

    # ---- the outbox ----------------------------------------------------------------------

    async def has_any(self) -> bool:
        return bool(await self._session.scalar(select(select(Webhook).exists())))

    async def behind(self, settled: int) -> Sequence[int]:
        """Enabled webhooks whose outbox lacks events up to `settled`."""
        statement = select(Webhook).where(
            col(Webhook.enabled), col(Webhook.last_event_id) < settled
        )
        return [row_id(webhook) for webhook in (await self._session.execute(statement)).scalars()]

    async def sendable(self, at: datetime) -> list[tuple[int, int]]:
        """(webhook, consecutive failures) of each that has due deliveries and is not paused."""
        due = select(1).where(
            col(WebhookDelivery.webhook_id) == col(Webhook.id), _PENDING, _is_due(at)
        )
        statement = select(Webhook).where(
            col(Webhook.enabled),
            or_(col(Webhook.paused_until).is_(None), col(Webhook.paused_until) <= at),
            due.exists(),
        )
        found = (await self._session.execute(statement)).scalars()
        return [(row_id(webhook), webhook.failures) for webhook in found]

    async def due(self, webhook_id: int, at: datetime, limit: int) -> Sequence[WebhookDelivery]:
        """Due deliveries of the webhook, longest due first."""
        statement = (
            select(WebhookDelivery)
            .where(col(WebhookDelivery.webhook_id) == webhook_id, _PENDING, _is_due(at))
            .order_by(col(WebhookDelivery.next_attempt_at), col(WebhookDelivery.id))
            .limit(limit)
        )
        return (await self._session.execute(statement)).scalars().all()

    async def claim(self, delivery_id: int, at: datetime, until: datetime) -> bool:
        """Claim a delivery until then; False if another server has claimed it."""
        statement = (
            update(WebhookDelivery)
            .where(col(WebhookDelivery.id) == delivery_id, _PENDING, _is_due(at))
            .values(claimed_until=until, attempts=col(WebhookDelivery.attempts) + 1)
            .execution_options(synchronize_session=False)
            .returning(col(WebhookDelivery.id))
        )
        return (await self._session.execute(statement)).first() is not None

    async def make_due(self, webhook_id: int, at: datetime) -> None:
        """Its pending deliveries, however long they were to wait."""
        later = col(WebhookDelivery.next_attempt_at) > at
        statement = (
            update(WebhookDelivery)
            .where(col(WebhookDelivery.webhook_id) == webhook_id, _PENDING, later)
            .values(next_attempt_at=at)
            .execution_options(synchronize_session=False)
        )
        await self._session.execute(statement)

    async def delivery(self, webhook_id: int, delivery_id: int) -> WebhookDelivery | None:
        statement = select(WebhookDelivery).where(
            col(WebhookDelivery.webhook_id) == webhook_id, col(WebhookDelivery.id) == delivery_id
        )
        return (await self._session.execute(statement)).scalar_one_or_none()

    async def deliveries(
        self, webhook_id: int, state: str | None, *, before: int, limit: int
    ) -> Sequence[WebhookDelivery]:
        """The newest deliveries with a smaller id."""
        statement = select(WebhookDelivery).where(
            col(WebhookDelivery.webhook_id) == webhook_id, col(WebhookDelivery.id) < before
        )
        if state is not None:
            statement = statement.where(col(WebhookDelivery.state) == state)
        ordered = statement.order_by(col(WebhookDelivery.id).desc()).limit(limit)
        return (await self._session.execute(ordered)).scalars().all()

    async def delete_finished(self, before: datetime) -> None:
        statement = delete(WebhookDelivery).where(col(WebhookDelivery.finished_at) < before)
        await self._session.execute(statement)


def _is_due(at: datetime) -> ColumnElement[bool]:
    unclaimed = or_(
        col(WebhookDelivery.claimed_until).is_(None), col(WebhookDelivery.claimed_until) <= at
    )
    return and_(col(WebhookDelivery.next_attempt_at) <= at, unclaimed)
