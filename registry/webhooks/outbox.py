"""Outboxes of webhooks: filled from the event log, emptied by servers that claim deliveries.

Any number of servers may share one database. An event enters an outbox in the transaction that
moves the webhook's position in the log. A delivery is claimed before it is sent and settled
after it; if the sender dies in between, the claim expires and another server sends it again.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from registry.database.engine import Database
from registry.events.log import RecordedEvent, recorded_events
from registry.events.repository import EventFilter, EventRepository
from registry.models import Event, EventKind, now, row_id
from registry.models.webhook import DeliveryState, Webhook, WebhookDelivery
from registry.webhooks.payloads import host_of, message_id_of, message_of, usable_secrets
from registry.webhooks.repository import WebhookRepository
from registry.webhooks.retry_policy import WebhookLimits, record_failure, record_success
from registry.webhooks.sender import Outcome

_PAGE = 500
_EVERYTHING = EventFilter()

ACTOR = "adaptry"


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process is about to send."""

    webhook_id: int
    delivery_id: int
    failures: int
    url: str
    keys: tuple[str, ...]
    message_id: str
    body: bytes


class Outbox:
    """Each call is a few short transactions. All raise DatabaseUnavailable."""

    def __init__(self, database: Database, limits: WebhookLimits) -> None:
        self._database = database
        self._limits = limits

    async def has_webhooks(self) -> bool:
        async with self._database.read_session() as session:
            return await WebhookRepository(session).has_any()

    async def fill(self, settled: int) -> None:
        """Add the events up to the watermark to all matching outboxes."""
        async with self._database.read_session() as session:
            behind = await WebhookRepository(session).behind(settled)
        for webhook_id in behind:
            while await self._fill(webhook_id, settled):
                pass

    async def _fill(self, webhook_id: int, settled: int) -> bool:
        """One page of events for one webhook; True if there are more."""
        async with self._database.transaction(for_catalog=False) as session:
            repository = WebhookRepository(session)
            webhook = await repository.lock_webhook(webhook_id)
            if webhook is None or not webhook.enabled or webhook.last_event_id >= settled:
                return False
            rows = await EventRepository(session).between(
                webhook.last_event_id, settled, _EVERYTHING, _PAGE
            )
            events = recorded_events(rows)
            await repository.add_all(
                _delivery(webhook_id, event) for event in events if _is_for(webhook, event)
            )
            more = len(events) == _PAGE
            webhook.last_event_id = events[-1].id if more else settled
        return more

    async def sendable(self) -> list[tuple[int, int]]:
        """(webhook, consecutive failures) of each that has due deliveries and is not paused."""
        async with self._database.read_session() as session:
            return await WebhookRepository(session).sendable(now())

    async def claim(self, webhook_id: int, limit: int) -> list[Claim]:
        """Claim due deliveries for as long as an attempt may take."""
        at = now()
        seconds = self._limits.timeout_seconds + self._limits.claim_margin_seconds
        until = at + timedelta(seconds=seconds)
        async with self._database.transaction(for_catalog=False) as session:
            repository = WebhookRepository(session)
            webhook = await repository.webhook(webhook_id)
            if webhook is None:
                return []
            return [
                await _make_claim(session, webhook, delivery)
                for delivery in await repository.due(webhook_id, at, limit)
                if await repository.claim(row_id(delivery), at, until)
            ]

    async def settle(self, claim: Claim, outcome: Outcome) -> None:
        """Record the outcome of an attempt."""
        async with self._database.transaction(for_catalog=False) as session:
            repository = WebhookRepository(session)
            webhook = await repository.lock_webhook(claim.webhook_id)
            delivery = await repository.delivery(claim.webhook_id, claim.delivery_id)
            if webhook is None or delivery is None or delivery.state != DeliveryState.PENDING:
                return  # removed meanwhile, or delivered by another server
            if outcome.is_delivered:
                record_success(webhook, delivery, outcome)
                return
            was_enabled = webhook.enabled
            record_failure(webhook, delivery, outcome, self._limits, failures_before=claim.failures)
            if was_enabled and not webhook.enabled:
                session.add(_disabled_event(webhook))

    async def delete_finished(self) -> None:
        """Delete deliveries that finished before the retention time."""
        before = now() - timedelta(days=self._limits.keep_days)
        async with self._database.transaction(for_catalog=False) as session:
            await WebhookRepository(session).delete_finished(before)


def _is_for(webhook: Webhook, recorded: RecordedEvent) -> bool:
    if recorded.event.imported:  # it happened in another registry
        return False
    if not webhook.kinds and recorded.event.kind.startswith("webhook."):
        return False  # events of webhooks must be subscribed to explicitly
    if webhook.adapters and recorded.adapter not in webhook.adapters:
        return False
    return not webhook.kinds or recorded.event.kind in webhook.kinds


def _delivery(webhook_id: int, recorded: RecordedEvent) -> WebhookDelivery:
    return WebhookDelivery(
        webhook_id=webhook_id,
        event_id=recorded.id,
        message_id=message_id_of(recorded),
        kind=recorded.event.kind,
    )


async def _make_claim(session: AsyncSession, webhook: Webhook, delivery: WebhookDelivery) -> Claim:
    event_id = delivery.event_id or 0
    rows = await EventRepository(session).between(event_id - 1, event_id, _EVERYTHING, 1)
    return Claim(
        webhook_id=delivery.webhook_id,
        delivery_id=row_id(delivery),
        failures=webhook.failures,
        url=webhook.url,
        keys=usable_secrets(webhook),
        message_id=delivery.message_id,
        body=message_of(recorded_events(rows)[0]),
    )


def _disabled_event(webhook: Webhook) -> Event:
    return Event(
        actor=ACTOR,
        kind=EventKind.WEBHOOK_DISABLED,
        reason=webhook.disabled_reason,
        data={"webhook": webhook.id, "host": host_of(webhook)},
    )
