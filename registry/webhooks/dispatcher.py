"""Webhook dispatcher: sends what is in the outboxes, a bounded number at a time."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable

from registry.database.engine import Database
from registry.events.watermark import EventWatermark, wait_for
from registry.webhooks.outbox import Claim, Outbox
from registry.webhooks.retry_policy import WebhookLimits
from registry.webhooks.sender import WebhookSender

logger = logging.getLogger(__name__)

_DRAIN_SECONDS = 3.0
_CLEANUP_SECONDS = 3600.0
_PACE_SECONDS = 0.1  # between looks whether there is any webhook, which each change would cost


class WebhookDispatcher:
    """Sends due deliveries. `run` needs its own task."""

    def __init__(
        self,
        database: Database,
        watermark: EventWatermark,
        sender: WebhookSender,
        limits: WebhookLimits,
    ) -> None:
        self._watermark = watermark
        self._sender = sender
        self._limits = limits
        self._outbox = Outbox(database, limits)
        self._sending: dict[asyncio.Task[None], int] = {}  # webhook id by task
        self._wake = asyncio.Event()
        self._cleaned_at = time.monotonic()
        self._commits = database.seen_commits()
        self.on_attempt: list[Callable[[bool], None]] = []  # called with whether it was delivered
        database.on_change.append(self._wake.set)  # such as a webhook that was enabled
        watermark.on_advance.append(self._wake.set)

    async def run(self) -> None:
        """Run until the watermark is closed; retries during an outage."""
        away = False
        try:
            while not self._watermark.closed.is_set():
                self._wake.clear()
                try:
                    await self._step()
                    away = False
                except Exception as error:  # any error: the outboxes must be emptied later
                    if not away:
                        logger.warning("webhooks are not sent for now: %s", error)
                    away = True
                await wait_for(self._wake, self._limits.poll_seconds)
        finally:
            await self._drain()

    async def _step(self) -> None:
        unseen = self._commits.unseen()
        if unseen is None:
            return
        if not await self._outbox.has_webhooks():
            self._commits.record(unseen)
            await wait_for(self._watermark.closed, _PACE_SECONDS)
            return
        await self._outbox.fill(self._watermark.position)
        sendable = await self._outbox.sendable()
        random.shuffle(sendable)  # else the first ones would take all capacity
        for webhook_id, failures in sendable:
            free = self._capacity(webhook_id, failures)
            if free > 0:
                self._start(await self._outbox.claim(webhook_id, free))
        if time.monotonic() - self._cleaned_at > _CLEANUP_SECONDS:
            self._cleaned_at = time.monotonic()
            await self._outbox.delete_finished()

    def _capacity(self, webhook_id: int, failures: int) -> int:
        """Deliveries to start now; a failing webhook gets one at a time."""
        each = 1 if failures else self._limits.max_sending_each
        busy = Counter(self._sending.values())
        return min(each - busy[webhook_id], self._limits.max_sending - busy.total())

    def _start(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            task = asyncio.create_task(self._deliver(claim))
            self._sending[task] = claim.webhook_id
            task.add_done_callback(self._on_done)

    async def _deliver(self, claim: Claim) -> None:
        outcome = await self._sender.send(claim.url, claim.keys, claim.message_id, claim.body)
        for callback in self.on_attempt:
            callback(outcome.is_delivered)
        await self._outbox.settle(claim, outcome)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._sending[task]
        self._wake.set()  # capacity for the next one
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("a delivery could not be recorded, it will be repeated: %s", error)

    async def _drain(self) -> None:
        """Wait for running deliveries; unfinished ones are sent again by another server."""
        sending = list(self._sending)
        if sending:
            await asyncio.wait(sending, timeout=_DRAIN_SECONDS)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
