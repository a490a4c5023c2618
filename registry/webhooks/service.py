"""Webhook service: add, change, test and retry webhooks."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.client_address import client_address
from registry.database.engine import Database
from registry.database.pagination import Page, number_of, token_after
from registry.errors import InvalidUrl, TooManyWebhooks, UnknownDelivery, UnknownWebhook
from registry.events.watermark import EventWatermark
from registry.models import MAX_BIG_ID, Event, EventKind, now, row_id
from registry.models.webhook import DeliveryState, Webhook, WebhookDelivery
from registry.sources.egress_guard import EgressGuard
from registry.webhooks.payloads import TEST_KIND, host_of, test_message, usable_secrets
from registry.webhooks.repository import WebhookRepository
from registry.webhooks.retry_policy import disable, enable
from registry.webhooks.sender import WebhookSender
from registry.webhooks.signing import new_secret

MAX_WEBHOOKS = 100  # each event is written once for each
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WebhookStatus:
    """A webhook and its number of pending deliveries."""

    webhook: Webhook
    pending: int


class WebhookService:
    """Each change is one transaction with its event."""

    def __init__(
        self,
        database: Database,
        watermark: EventWatermark,
        guard: EgressGuard,
        sender: WebhookSender,
    ) -> None:
        self._database = database
        self._watermark = watermark
        self._guard = guard
        self._sender = sender

    # ---- look-ups ------------------------------------------------------------------------

    async def webhook(self, webhook_id: int) -> WebhookStatus:
        """Raises UnknownWebhook."""
        async with self._database.read_session() as session:
            repository = WebhookRepository(session)
            webhook = await repository.webhook(webhook_id)
            if webhook is None:
                raise UnknownWebhook(webhook_id)
            pending = await repository.count_pending([webhook_id])
        return WebhookStatus(webhook, pending.get(webhook_id, 0))

    async def webhooks(self, *, limit: int, page_token: str | None = None) -> Page[WebhookStatus]:
        """One page, oldest first. Raises InvalidPageToken."""
        after = number_of(page_token)
        async with self._database.read_session() as session:
            repository = WebhookRepository(session)
            rows = await repository.webhooks(after=after, limit=limit + 1)
            pending = await repository.count_pending([row_id(webhook) for webhook in rows])
        found = [WebhookStatus(row, pending.get(row_id(row), 0)) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(found, token_after(row_id(found[-1].webhook)) if more else None)

    async def deliveries(
        self, webhook_id: int, state: str | None, *, limit: int, page_token: str | None = None
    ) -> Page[WebhookDelivery]:
        """One page, newest first. Raises UnknownWebhook, InvalidPageToken."""
        before = number_of(page_token, MAX_BIG_ID) or MAX_BIG_ID
        async with self._database.read_session() as session:
            repository = WebhookRepository(session)
            if await repository.webhook(webhook_id) is None:
                raise UnknownWebhook(webhook_id)
            rows = await repository.deliveries(webhook_id, state, before=before, limit=limit + 1)
        found = rows[:limit]
        return Page(found, token_after(row_id(found[-1])) if len(rows) > limit else None)

    # ---- changes -------------------------------------------------------------------------

    async def add(
        self,
        url: str,
        *,
        actor: str,
        kinds: Sequence[str] = (),
        adapters: Sequence[str] = (),
        description: str | None = None,
    ) -> Webhook:
        """Add a webhook for events from now on.

        Raises InvalidUrl, HostUnknown, AddressNotAllowed, TooManyWebhooks.
        """
        await self._check(url)
        begins_after = await self._watermark.catch_up(_SETTLE_SECONDS)
        webhook = Webhook(
            url=url,
            description=description,
            kinds=list(kinds),
            adapters=list(adapters),
            secret=new_secret(),
            last_event_id=begins_after,
            created_by=actor,
        )
        async with self._database.transaction() as session:
            repository = WebhookRepository(session)
            if len(await repository.webhooks(after=0, limit=MAX_WEBHOOKS)) == MAX_WEBHOOKS:
                raise TooManyWebhooks(MAX_WEBHOOKS)
            await repository.add(webhook)
            session.add(_event(EventKind.WEBHOOK_ADDED, webhook, actor))
        return webhook

    async def change(
        self, webhook_id: int, changes: Mapping[str, Any], *, actor: str
    ) -> WebhookStatus:
        """Set some of url, description, kinds, adapters and enabled.

        Events from while it was disabled are delivered once it is enabled again.
        Raises UnknownWebhook and what `add` raises.
        """
        if "url" in changes:
            await self._check(changes["url"])
        async with self._webhook_transaction(webhook_id) as (session, webhook):
            for name, value in changes.items():
                if name != "enabled":
                    setattr(webhook, name, list(value) if isinstance(value, tuple) else value)
            if "enabled" in changes:
                if changes["enabled"]:
                    enable(webhook)
                    await WebhookRepository(session).make_due(webhook_id, now())
                else:
                    disable(webhook, "switched off")
            fields = {"changed": sorted(changes)}
            session.add(_event(EventKind.WEBHOOK_CHANGED, webhook, actor, **fields))
        return await self.webhook(webhook_id)

    async def rotate_secret(
        self, webhook_id: int, *, keep: timedelta, actor: str
    ) -> tuple[str, datetime]:
        """A new secret, and until when messages are signed with the old one too.

        Raises UnknownWebhook.
        """
        async with self._webhook_transaction(webhook_id) as (session, webhook):
            until = now() + keep
            webhook.previous_secret, webhook.previous_secret_until = webhook.secret, until
            webhook.secret = secret = new_secret()
            session.add(_event(EventKind.WEBHOOK_CHANGED, webhook, actor, changed=["secret"]))
        return secret, until

    async def remove(self, webhook_id: int, *, actor: str) -> None:
        """Remove it and its outbox. Raises UnknownWebhook."""
        async with self._webhook_transaction(webhook_id) as (session, webhook):
            session.add(_event(EventKind.WEBHOOK_REMOVED, webhook, actor))
            await WebhookRepository(session).remove(webhook_id)

    # ---- deliveries ----------------------------------------------------------------------

    async def test(self, webhook_id: int) -> WebhookDelivery:
        """Send a test message once, even if the webhook is disabled.

        Raises UnknownWebhook.
        """
        webhook = (await self.webhook(webhook_id)).webhook
        message_id, body = test_message(webhook)
        created_at = now()
        outcome = await self._sender.send(webhook.url, usable_secrets(webhook), message_id, body)
        delivery = WebhookDelivery(
            webhook_id=webhook_id,
            message_id=message_id,
            kind=TEST_KIND,
            state=DeliveryState.DELIVERED if outcome.is_delivered else DeliveryState.FAILED,
            attempts=1,
            status_code=outcome.status_code,
            error=outcome.error,
            created_at=created_at,
            finished_at=now(),
        )
        async with self._database.transaction(for_catalog=False) as session:
            repository = WebhookRepository(session)
            if await repository.lock_webhook(webhook_id) is None:
                raise UnknownWebhook(webhook_id)
            await repository.add(delivery)
        return delivery

    async def retry(self, webhook_id: int, delivery_id: int, *, actor: str) -> WebhookDelivery:
        """Deliver it (again) as soon as the webhook is enabled.

        Raises UnknownWebhook, UnknownDelivery.
        """
        async with self._webhook_transaction(webhook_id) as (session, webhook):
            delivery = await WebhookRepository(session).delivery(webhook_id, delivery_id)
            if delivery is None or delivery.event_id is None:
                raise UnknownDelivery(webhook_id, delivery_id)
            delivery.state, delivery.attempts = DeliveryState.PENDING, 0
            delivery.next_attempt_at = now()
            delivery.finished_at = webhook.paused_until = None
            session.add(_event(EventKind.WEBHOOK_RETRIED, webhook, actor, delivery=delivery_id))
        return delivery

    @asynccontextmanager
    async def _webhook_transaction(
        self, webhook_id: int
    ) -> AsyncIterator[tuple[AsyncSession, Webhook]]:
        async with self._database.transaction() as session:
            webhook = await WebhookRepository(session).lock_webhook(webhook_id)
            if webhook is None:
                raise UnknownWebhook(webhook_id)
            yield session, webhook

    async def _check(self, url: str) -> None:
        host, port = _endpoint(url)
        await asyncio.to_thread(self._guard.addresses, host, port)


def _endpoint(url: str) -> tuple[str, int]:
    """Host and port. Raises InvalidUrl."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidUrl(f"this is no URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.raw_host:
        raise InvalidUrl("a webhook's URL begins with https:// or http:// and names a host")
    if parsed.userinfo or parsed.fragment:
        raise InvalidUrl("a webhook's URL holds no user, password or fragment")
    port = parsed.port if parsed.port is not None else 443 if parsed.scheme == "https" else 80
    if not 0 < port <= 65535:
        raise InvalidUrl(f"{port} is no port")
    return parsed.raw_host.decode("ascii"), port


def _event(kind: EventKind, webhook: Webhook, actor: str, **more: Any) -> Event:
    return Event(
        actor=actor,
        address=client_address(),
        kind=kind,
        data={"webhook": webhook.id, "host": host_of(webhook), **more},
    )
