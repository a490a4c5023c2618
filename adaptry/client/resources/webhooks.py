"""`client.webhooks`: delivery of events to other systems."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from adaptry.client.models import (
    DeliveryRead,
    EventKind,
    SecretRotated,
    WebhookCreated,
    WebhookRead,
)
from adaptry.client.transport.operations import Resource, operation, pages
from adaptry.client.transport.requests import UNSET, Parameters, Unset, without_none, without_unset

T_co = TypeVar("T_co", covariant=True)


class Webhooks(Resource[T_co]):
    """Add webhooks, change them, and see what was delivered."""

    @pages("/api/v1/webhooks", WebhookRead)
    def list(self, *, page_size: int = 100) -> Parameters:
        """All webhooks, the oldest first."""
        return Parameters(query={"limit": page_size})

    @operation("GET", "/api/v1/webhooks/{webhook}", WebhookRead)
    def get(self, webhook: int) -> Parameters:
        """One webhook."""
        return Parameters({"webhook": webhook})

    @operation("POST", "/api/v1/webhooks", WebhookCreated)
    def add(
        self,
        url: str,
        *,
        kinds: Sequence[EventKind] = (),
        adapters: Sequence[str] = (),
        description: str | None = None,
    ) -> Parameters:
        """Send events to an endpoint from now on. Store the secret: it is shown only here."""
        body = without_none(url=url, kinds=kinds, adapters=adapters, description=description)
        return Parameters(body=body)

    @operation("PATCH", "/api/v1/webhooks/{webhook}", WebhookRead)
    def change(
        self,
        webhook: int,
        *,
        url: str | Unset = UNSET,
        description: str | Unset | None = UNSET,
        kinds: Sequence[EventKind] | Unset = UNSET,
        adapters: Sequence[str] | Unset = UNSET,
        enabled: bool | Unset = UNSET,
    ) -> Parameters:
        """Change the given fields; `enabled` True also delivers what was missed meanwhile."""
        body = without_unset(
            url=url, description=description, kinds=kinds, adapters=adapters, enabled=enabled
        )
        return Parameters({"webhook": webhook}, body=body)

    @operation("DELETE", "/api/v1/webhooks/{webhook}", type(None))
    def remove(self, webhook: int) -> Parameters:
        """Delete the webhook and its deliveries."""
        return Parameters({"webhook": webhook})

    @operation("POST", "/api/v1/webhooks/{webhook}/rotate-secret", SecretRotated)
    def rotate_secret(self, webhook: int, *, keep_hours: float | None = None) -> Parameters:
        """Create a new secret. For `keep_hours`, messages are signed with both."""
        return Parameters({"webhook": webhook}, body=without_none(keep_hours=keep_hours))

    @operation("POST", "/api/v1/webhooks/{webhook}/test", DeliveryRead)
    def test(self, webhook: int) -> Parameters:
        """Send a message of kind `webhook.test` now and return the outcome."""
        return Parameters({"webhook": webhook})

    @pages("/api/v1/webhooks/{webhook}/deliveries", DeliveryRead)
    def deliveries(
        self,
        webhook: int,
        *,
        state: Literal["pending", "delivered", "failed"] | None = None,
        page_size: int = 100,
    ) -> Parameters:
        """Past and pending deliveries, the newest first."""
        return Parameters({"webhook": webhook}, {"state": state, "limit": page_size})

    @operation("POST", "/api/v1/webhooks/{webhook}/deliveries/{delivery}/retry", DeliveryRead)
    def retry(self, webhook: int, delivery: int) -> Parameters:
        """Deliver it again, with a fresh count of attempts."""
        return Parameters({"webhook": webhook, "delivery": delivery})
