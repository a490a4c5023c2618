"""When a message is tried again, when it is given up, and when its webhook is disabled."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.models import now
from registry.models.webhook import DeliveryState, Webhook, WebhookDelivery
from registry.webhooks.retry_policy import WebhookLimits, enable, record_failure, record_success
from registry.webhooks.sender import Outcome

LIMITS = WebhookLimits()
FAILED = Outcome(500, "HTTP 500")


def is_none(value: object) -> bool:
    """Asked of a function, as mypy does not see that calls change fields."""
    return value is None


def is_true(value: object) -> bool:
    return value is True


@pytest.fixture
def webhook() -> Webhook:
    return Webhook(url="http://x", kinds=[], adapters=[], secret="s", created_by="me")


@pytest.fixture
def delivery() -> WebhookDelivery:
    return WebhookDelivery(webhook_id=1, message_id="msg", kind="alias.moved", attempts=1)


@given(st.integers(1, 1000))
def test_a_wait_grows_threefold_up_to_a_limit_and_half_of_it_is_chance(failures: int) -> None:
    longest = min(5 * 3.0 ** min(failures - 1, 40), 6 * 3600)
    waits = {LIMITS.backoff(failures).total_seconds() for _ in range(20)}
    assert all(longest / 2 - 0.001 <= wait <= longest + 0.001 for wait in waits)
    assert len(waits) > 10


def test_the_defaults_try_for_about_a_day() -> None:
    waits = [LIMITS.backoff(n) for n in range(1, LIMITS.max_attempts)]
    assert timedelta(hours=11) < sum(waits, timedelta()) < timedelta(hours=48)


def test_a_failure_is_noted_and_both_wait(webhook: Webhook, delivery: WebhookDelivery) -> None:
    delivery.claimed_until = now()
    record_failure(webhook, delivery, FAILED, LIMITS, failures_before=0)
    assert delivery.state == DeliveryState.PENDING
    assert is_none(delivery.claimed_until)
    assert (delivery.status_code, delivery.error) == (500, "HTTP 500")
    assert delivery.next_attempt_at > now() + timedelta(seconds=2)
    assert webhook.failures == 1
    assert webhook.paused_until is not None
    assert webhook.paused_until > now() + timedelta(seconds=2)


@pytest.mark.parametrize(("asked", "least"), [(None, 2), (1, 2), (600, 600)])
def test_a_receiver_may_ask_for_a_longer_wait(
    webhook: Webhook, delivery: WebhookDelivery, asked: int | None, least: int
) -> None:
    before = now()
    outcome = Outcome(429, "HTTP 429", retry_after_seconds=asked)
    record_failure(webhook, delivery, outcome, LIMITS, failures_before=0)
    wait = delivery.next_attempt_at - before
    assert timedelta(seconds=least) < wait < timedelta(seconds=least + 10)


def test_a_message_is_given_up_after_its_last_attempt(
    webhook: Webhook, delivery: WebhookDelivery
) -> None:
    delivery.attempts = LIMITS.max_attempts - 1
    record_failure(webhook, delivery, FAILED, LIMITS, failures_before=0)
    assert (delivery.state, delivery.finished_at) == (DeliveryState.PENDING, None)
    delivery.attempts += 1
    record_failure(webhook, delivery, FAILED, LIMITS, failures_before=1)
    assert delivery.state == DeliveryState.FAILED
    assert delivery.finished_at is not None
    assert webhook.enabled


def test_of_attempts_side_by_side_one_counts(webhook: Webhook, delivery: WebhookDelivery) -> None:
    for _ in range(4):
        record_failure(webhook, delivery, FAILED, LIMITS, failures_before=0)
    assert webhook.failures == 1


def test_after_too_many_failures_in_a_row_it_is_disabled_until_it_is_enabled(
    webhook: Webhook, delivery: WebhookDelivery
) -> None:
    for failures in range(LIMITS.max_failures):
        assert webhook.enabled
        record_failure(webhook, delivery, FAILED, LIMITS, failures_before=failures)
    assert not webhook.enabled
    assert webhook.disabled_reason == "15 attempts in a row failed, the last: HTTP 500"
    enable(webhook)
    assert is_true(webhook.enabled)
    assert is_none(webhook.disabled_reason)
    assert is_none(webhook.paused_until)
    assert webhook.failures == 0


def test_one_success_makes_up_for_all_failures(webhook: Webhook, delivery: WebhookDelivery) -> None:
    for failures in range(LIMITS.max_failures - 1):
        record_failure(webhook, delivery, FAILED, LIMITS, failures_before=failures)
    record_success(webhook, delivery, Outcome(200))
    assert (webhook.failures, webhook.paused_until) == (0, None)
    assert (delivery.state, delivery.error) == (DeliveryState.DELIVERED, None)
    record_failure(webhook, delivery, FAILED, LIMITS, failures_before=0)
    assert webhook.enabled


def test_an_endpoint_that_answers_410_is_disabled_immediately(
    webhook: Webhook, delivery: WebhookDelivery
) -> None:
    record_failure(webhook, delivery, Outcome(410, "HTTP 410"), LIMITS, failures_before=0)
    assert webhook.disabled_reason == "the endpoint answered 410 Gone"


def test_a_reason_fits_into_its_column(webhook: Webhook, delivery: WebhookDelivery) -> None:
    webhook.failures = LIMITS.max_failures - 1
    outcome = Outcome(None, "x" * 1024)
    record_failure(webhook, delivery, outcome, LIMITS, failures_before=webhook.failures)
    assert webhook.disabled_reason is not None
    assert len(webhook.disabled_reason) == 1024
