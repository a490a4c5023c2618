"""Payloads of webhooks: `type`, `timestamp` and `data`, as Standard Webhooks recommends."""

import json
from urllib.parse import urlsplit

from registry.events.log import RecordedEvent
from registry.events.schemas import event_read
from registry.models import new_uid, now
from registry.models.webhook import Webhook

TEST_KIND = "webhook.test"


def message_of(recorded: RecordedEvent) -> bytes:
    """The same bytes at each attempt."""
    event = event_read(recorded, with_address=False).model_dump(mode="json")
    return _message(recorded.event.kind, event["at"], event)


def message_id_of(recorded: RecordedEvent) -> str:
    """Lets a receiver detect a repeated message."""
    return f"msg_{recorded.event.uid}"


def test_message(webhook: Webhook) -> tuple[str, bytes]:
    """Id and content of a test message."""
    content = _message(TEST_KIND, now().isoformat(), {"webhook": webhook.id})
    return f"msg_{new_uid()}", content


def usable_secrets(webhook: Webhook) -> tuple[str, ...]:
    """Secrets to sign with, newest first; the previous one until its rotation period ends."""
    until = webhook.previous_secret_until
    if webhook.previous_secret is None or until is None or until <= now():
        return (webhook.secret,)
    return (webhook.secret, webhook.previous_secret)


def host_of(webhook: Webhook) -> str:
    """Host for the event log: the rest of the URL may be a secret."""
    return urlsplit(webhook.url).hostname or ""


def _message(kind: str, timestamp: str, data: dict[str, object]) -> bytes:
    content = {"type": kind, "timestamp": timestamp, "data": data}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
