"""Routes of webhooks, under `/api/v1/webhooks`."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, status

from registry.api.parameters import Limit, PageToken
from registry.api.webhook_schemas import (
    DeliveryPage,
    DeliveryRead,
    SecretRotate,
    SecretRotated,
    WebhookChange,
    WebhookCreate,
    WebhookCreated,
    WebhookPage,
    WebhookRead,
    delivery_read,
    webhook_created,
    webhook_read,
)
from registry.auth.caller import actor_name
from registry.http.problems import ProblemRoute
from registry.models.webhook import DeliveryState
from registry.webhooks.service import WebhookService

_ERRORS = (400, 403, 404, 422, 503)

Id = Annotated[int, Path(alias="webhook", ge=1, le=2**31 - 1)]
DeliveryId = Annotated[int, Path(alias="delivery", ge=1, le=2**31 - 1)]
State = Annotated[DeliveryState | None, Query()]


def create_webhook_router(service: WebhookService) -> APIRouter:
    """All routes, for inclusion in any FastAPI application."""
    router = APIRouter(
        prefix="/api/v1/webhooks",
        tags=["webhooks"],
        route_class=ProblemRoute,
        responses={code: {} for code in _ERRORS},
    )
    _add_lookups(router, service)
    _add_changes(router, service)
    _add_deliveries(router, service)
    return router


def _add_lookups(router: APIRouter, service: WebhookService) -> None:
    @router.get("")
    async def webhooks(limit: Limit = 100, page_token: PageToken = None) -> WebhookPage:
        """All webhooks, oldest first."""
        page = await service.webhooks(limit=limit, page_token=page_token)
        items = [webhook_read(found) for found in page.items]
        return WebhookPage(items=items, next_page_token=page.next_token)

    @router.get("/{webhook}")
    async def webhook(webhook_id: Id) -> WebhookRead:
        """One webhook."""
        return webhook_read(await service.webhook(webhook_id))


def _add_changes(router: APIRouter, service: WebhookService) -> None:
    @router.post("", status_code=status.HTTP_201_CREATED)
    async def add(body: WebhookCreate) -> WebhookCreated:
        """Send events to an endpoint from now on. Store the secret: it is shown only here."""
        added = await service.add(
            body.url,
            kinds=body.kinds,
            adapters=body.adapters,
            description=body.description,
            actor=actor_name(),
        )
        return webhook_created(added)

    @router.patch("/{webhook}")
    async def change(webhook_id: Id, body: WebhookChange) -> WebhookRead:
        """Change the given fields; `enabled` true also delivers missed events."""
        changes = body.model_dump(exclude_unset=True)
        return webhook_read(await service.change(webhook_id, changes, actor=actor_name()))

    @router.delete("/{webhook}", status_code=status.HTTP_204_NO_CONTENT)
    async def remove(webhook_id: Id) -> None:
        """Delete the webhook and its deliveries."""
        await service.remove(webhook_id, actor=actor_name())

    @router.post("/{webhook}/rotate-secret")
    async def rotate_secret(webhook_id: Id, body: SecretRotate | None = None) -> SecretRotated:
        """Create a new secret. For a while messages are signed with both."""
        keep = timedelta(hours=(body or SecretRotate()).keep_hours)
        secret, until = await service.rotate_secret(webhook_id, keep=keep, actor=actor_name())
        return SecretRotated(secret=secret, previous_valid_until=until)


def _add_deliveries(router: APIRouter, service: WebhookService) -> None:
    @router.post("/{webhook}/test")
    async def test(webhook_id: Id) -> DeliveryRead:
        """Send a message of the kind `webhook.test` now, and return its outcome."""
        return delivery_read(await service.test(webhook_id))

    @router.get("/{webhook}/deliveries")
    async def deliveries(
        webhook_id: Id, state: State = None, limit: Limit = 100, page_token: PageToken = None
    ) -> DeliveryPage:
        """Deliveries, newest first."""
        page = await service.deliveries(webhook_id, state, limit=limit, page_token=page_token)
        items = [delivery_read(found) for found in page.items]
        return DeliveryPage(items=items, next_page_token=page.next_token)

    @router.post("/{webhook}/deliveries/{delivery}/retry", status_code=status.HTTP_202_ACCEPTED)
    async def retry(webhook_id: Id, delivery_id: DeliveryId) -> DeliveryRead:
        """Deliver it again, with its attempts reset."""
        return delivery_read(await service.retry(webhook_id, delivery_id, actor=actor_name()))
