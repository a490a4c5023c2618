"""`client.webhooks`: other systems that are told of events."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from adaptry.client.models import (
    DeliveryRead,
    EventKind,
    SecretRotated,
    WebhookCreated,
    WebhookRead,
)
from adaptry.client.transport.operations import Group, operation, pages
from adaptry.client.transport.requests import UNSET, Given, Unset, changed, given

S_co = TypeVar("S_co", covariant=True)


class Webhooks(Group[S_co]):
    """Add webhooks, change them, and see what was delivered."""

    @pages("/api/v1/webhooks", WebhookRead)
    def list(self, *, page_size: int = 100) -> Given:
        """All webhooks, the oldest first."""
        return Given(query={"limit": page_size})

    @operation("GET", "/api/v1/webhooks/{webhook}", WebhookRead)
    def get(self, webhook: int) -> Given:
        """One webhook."""
        return Given({"webhook": webhook})

    @operation("POST", "/api/v1/webhooks", WebhookCreated)
    def add(
        self,
        url: str,
        *,
        kinds: Sequence[EventKind] = (),
        adapters: Sequence[str] = (),
        description: str | None = None,
    ) -> Given:
        """Tell an endpoint of events from now on. Keep the secret: it is shown only here."""
        body = given(url=url, kinds=kinds, adapters=adapters, description=description)
        return Given(body=body)

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
    ) -> Given:
        """Change what is named; `enabled` True also delivers what was missed meanwhile."""
        body = changed(
            url=url, description=description, kinds=kinds, adapters=adapters, enabled=enabled
        )
        return Given({"webhook": webhook}, body=body)

    @operation("DELETE", "/api/v1/webhooks/{webhook}", type(None))
    def remove(self, webhook: int) -> Given:
        """Forget the webhook and its deliveries."""
        return Given({"webhook": webhook})

    @operation("POST", "/api/v1/webhooks/{webhook}/rotate-secret", SecretRotated)
    def rotate_secret(self, webhook: int, *, keep_hours: float | None = None) -> Given:
        """Make a new secret. For a while messages are signed with both."""
        return Given({"webhook": webhook}, body=given(keep_hours=keep_hours))

    @operation("POST", "/api/v1/webhooks/{webhook}/test", DeliveryRead)
    def test(self, webhook: int) -> Given:
        """Send a message of the kind `webhook.test` now and say what came of it."""
        return Given({"webhook": webhook})

    @pages("/api/v1/webhooks/{webhook}/deliveries", DeliveryRead)
    def deliveries(
        self,
        webhook: int,
        *,
        state: Literal["pending", "delivered", "failed"] | None = None,
        page_size: int = 100,
    ) -> Given:
        """What was or is to be delivered, the newest first."""
        return Given({"webhook": webhook}, {"state": state, "limit": page_size})

    @operation("POST", "/api/v1/webhooks/{webhook}/deliveries/{delivery}/retry", DeliveryRead)
    def retry(self, webhook: int, delivery: int) -> Given:
        """Deliver it once more, from now on as if for the first time."""
        return Given({"webhook": webhook, "delivery": delivery})
