"""Retry policy of deliveries and webhooks. No I/O but the clock and randomness."""

import random
from dataclasses import dataclass
from datetime import timedelta

from registry.models import now
from registry.models.webhook import DeliveryState, Webhook, WebhookDelivery
from registry.webhooks.sender import Outcome

_FACTOR = 3


@dataclass(frozen=True, slots=True)
class WebhookLimits:
    """Timeouts, retries and concurrency.

    With the defaults a delivery is retried for about a day, and an endpoint that fails every
    attempt is disabled after about two days.
    """

    timeout_seconds: float = 10.0
    first_backoff_seconds: float = 5.0
    max_backoff_seconds: float = 6 * 3600.0
    max_attempts: int = 12
    max_failures: int = 15
    max_sending: int = 32
    max_sending_each: int = 4
    keep_days: float = 30.0
    poll_seconds: float = 1.0
    claim_margin_seconds: float = 5.0

    def backoff(self, failures: int) -> timedelta:
        """Exponential backoff after so many failures, with up to half of it as jitter."""
        seconds = self.first_backoff_seconds * _FACTOR ** min(failures - 1, 40)
        return timedelta(seconds=min(seconds, self.max_backoff_seconds) * random.uniform(0.5, 1.0))


def record_success(webhook: Webhook, delivery: WebhookDelivery, outcome: Outcome) -> None:
    delivery.state = DeliveryState.DELIVERED
    delivery.finished_at = now()
    delivery.claimed_until = None
    delivery.status_code, delivery.error = outcome.status_code, None
    webhook.failures, webhook.paused_until = 0, None


def record_failure(
    webhook: Webhook,
    delivery: WebhookDelivery,
    outcome: Outcome,
    limits: WebhookLimits,
    *,
    failures_before: int,
) -> None:
    """Schedule the delivery's retry or fail it; pause the webhook or disable it.

    Of concurrent attempts, those with the same `failures_before`, only one counts.
    """
    at = now()
    delivery.claimed_until = None
    delivery.status_code, delivery.error = outcome.status_code, outcome.error
    wait = limits.backoff(delivery.attempts)
    if outcome.retry_after_seconds is not None:
        wait = max(wait, timedelta(seconds=outcome.retry_after_seconds))
    delivery.next_attempt_at = at + wait
    if delivery.attempts >= limits.max_attempts:
        delivery.state, delivery.finished_at = DeliveryState.FAILED, at
    if webhook.failures == failures_before:
        webhook.failures += 1
        webhook.paused_until = at + limits.backoff(webhook.failures)
    if outcome.is_gone:
        disable(webhook, "the endpoint answered 410 Gone")
    elif webhook.failures >= limits.max_failures:
        disable(webhook, f"{webhook.failures} attempts in a row failed, the last: {outcome.error}")


def disable(webhook: Webhook, reason: str) -> None:
    """Stop filling and emptying its outbox."""
    webhook.enabled = False
    webhook.disabled_reason = reason[:1024]


def enable(webhook: Webhook) -> None:
    """Reset its failures."""
    webhook.enabled = True
    webhook.disabled_reason = webhook.paused_until = None
    webhook.failures = 0
