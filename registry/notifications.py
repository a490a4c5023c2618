"""Event notifications, wired together: the event log, its streams, and webhooks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import APIRouter

from registry.api.events import create_event_router
from registry.api.webhooks import create_webhook_router
from registry.database.engine import Database
from registry.events.log import EventLog
from registry.events.stream import EventStreams, close_with_server
from registry.events.watermark import EventWatermark
from registry.http.sse import StreamLimiter, StreamLimits
from registry.settings import RegistrySettings
from registry.sources.egress_guard import EgressGuard
from registry.version import adaptry_version
from registry.webhooks.dispatcher import WebhookDispatcher
from registry.webhooks.retry_policy import WebhookLimits
from registry.webhooks.sender import WebhookSender
from registry.webhooks.service import WebhookService


@dataclass(frozen=True, slots=True)
class Notifications:
    """The event services of one server. `run` must run while `routers` are served."""

    watermark: EventWatermark
    routers: tuple[APIRouter, ...]
    dispatcher: WebhookDispatcher
    decision_streams: StreamLimiter  # for the engine's streams, which end with these

    async def run(self, is_stopping: Callable[[], bool]) -> None:
        """Run until cancelled. `is_stopping`: the HTTP server waits for its streams to end."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.watermark.run())
                tasks.create_task(self.dispatcher.run())
                tasks.create_task(close_with_server(self.watermark, is_stopping))
            await asyncio.Event().wait()  # until the server cancels it
        finally:
            self.watermark.close()


@asynccontextmanager
async def open_notifications(
    database: Database, settings: RegistrySettings, limits: WebhookLimits | None = None
) -> AsyncIterator[Notifications]:
    """Build the event services; connections are opened lazily and closed at the end."""
    limits = limits or WebhookLimits(
        max_attempts=settings.webhook_attempts, timeout_seconds=settings.webhook_timeout_seconds
    )
    watermark = EventWatermark(database)
    log = EventLog(database, watermark)
    stream_limits = StreamLimits(max_streams=settings.event_streams)
    streams = EventStreams(log, stream_limits)
    limiter = StreamLimiter(stream_limits, watermark.closed)
    guard = EgressGuard(settings.allowed_networks)
    sender = WebhookSender(
        guard, timeout_seconds=limits.timeout_seconds, user_agent=f"adaptry/{adaptry_version()}"
    )
    webhooks = WebhookService(database, watermark, guard, sender)
    routers = (create_event_router(log, streams), create_webhook_router(webhooks))
    try:
        dispatcher = WebhookDispatcher(database, watermark, sender, limits)
        yield Notifications(watermark, routers, dispatcher, limiter)
    finally:
        await sender.close()
