"""Looks for new events and for webhooks: changes in a row share them."""

import asyncio

import pytest

from registry.database.engine import Database
from registry.events import watermark
from registry.events.watermark import EventWatermark
from registry.models import Event, EventKind
from registry.notifications import open_notifications
from registry.settings import RegistrySettings
from registry.webhooks import dispatcher
from registry.webhooks.outbox import Outbox

CHANGES = 5


async def write(database: Database) -> None:
    async with database.transaction() as session:
        session.add(Event(actor="me", kind=EventKind.ALIAS_MOVED))


async def test_changes_in_a_row_cost_one_look_each_for_events_and_for_webhooks(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    read, has_webhooks = EventWatermark._read, Outbox.has_webhooks

    async def note_read(self: EventWatermark) -> tuple[int, frozenset[str]]:
        looks.append("events")
        return await read(self)

    async def note_webhooks(self: Outbox) -> bool:
        looks.append("webhooks")
        return await has_webhooks(self)

    monkeypatch.setattr(EventWatermark, "_read", note_read)
    monkeypatch.setattr(Outbox, "has_webhooks", note_webhooks)
    for module in (watermark, dispatcher):
        monkeypatch.setattr(module, "_PACE_SECONDS", 60.0)
    database = Database(database_url)
    async with open_notifications(database, RegistrySettings()) as events:
        following = [
            asyncio.create_task(runs()) for runs in (events.watermark.run, events.dispatcher.run)
        ]
        async with asyncio.timeout(30):
            while len(looks) < 2:
                await asyncio.sleep(0.01)
        for _ in range(CHANGES):
            await write(database)
            await asyncio.sleep(0.02)
        assert sorted(looks) == ["events", "webhooks"]
        events.watermark.close()
        async with asyncio.timeout(30):  # who waits between two looks ends with the server
            await asyncio.gather(*following)
    await database.close()


async def test_the_last_of_changes_in_a_row_is_seen(database_url: str) -> None:
    database = Database(database_url)
    followed = EventWatermark(database, poll_seconds=3600)
    following = asyncio.create_task(followed.run())
    for _ in range(CHANGES):
        await write(database)
    assert await followed.wait_beyond(0, 30)
    async with asyncio.timeout(30):
        while followed.position < CHANGES:
            await followed.wait_beyond(followed.position, 1)
    followed.close()
    await following
    await database.close()
