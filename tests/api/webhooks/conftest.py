"""Fixtures: webhooks whose deliveries are due at once, and repeated soon."""

import pytest

from registry.webhooks.retry_policy import WebhookLimits
from tests.api.conftest import QUICK_WEBHOOKS


@pytest.fixture
def webhook_limits() -> WebhookLimits:
    return QUICK_WEBHOOKS
