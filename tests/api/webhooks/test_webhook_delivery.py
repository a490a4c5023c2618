"""Webhooks from the outbox to a real receiver: signed, repeated until they arrive, and guarded."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks

from registry.database.engine import Database
from registry.models import Adapter, Event, EventKind, row_id
from registry.notifications import open_notifications
from registry.settings import RegistrySettings
from tests.api.conftest import QUICK_WEBHOOKS
from tests.support.servers.registry_subprocess import ServerProcess
from tests.support.servers.webhook_receiver import (
    PATIENCE_SECONDS,
    Answer,
    Received,
    Receiver,
    add,
    receiving,
)

pytestmark = pytest.mark.both_databases

Json = dict[str, Any]
AdapterMaker = Any


async def write(database: Database, *actors: str, **fields: Any) -> None:
    async with database.transaction() as session:
        for actor in actors:
            session.add(Event(**{"actor": actor, "kind": EventKind.ALIAS_MOVED, **fields}))
            await session.flush()


async def deliveries(client: httpx.AsyncClient, webhook: Json, **query: Any) -> list[Json]:
    """The oldest first."""
    response = await client.get(f"/webhooks/{webhook['id']}/deliveries", params=query)
    items: list[Json] = response.json()["items"]
    return items[::-1]


async def settled(client: httpx.AsyncClient, webhook: Json, count: int) -> list[Json]:
    """Wait until so many deliveries are there and none is pending."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await deliveries(client, webhook)
            if len(found) == count and all(d["state"] != "pending" for d in found):
                return found
            await asyncio.sleep(0.02)


async def state(client: httpx.AsyncClient, webhook: Json) -> Json:
    found: Json = (await client.get(f"/webhooks/{webhook['id']}")).json()
    return found


def actors_in(received: list[Received], secret: str) -> list[str]:
    return [message.verified(secret)["data"]["actor"] for message in received]


# ---- what is sent ----------------------------------------------------------------------------


async def test_a_change_is_delivered_signed_and_as_the_log_has_it(
    client: httpx.AsyncClient, receiver: Receiver, make_adapter: AdapterMaker
) -> None:
    webhook = await add(client, receiver)
    source = str(make_adapter("a"))
    await client.post("/adapters/bot/versions", json={"source": source})
    messages = await receiver.has(2)
    log = (await client.get("/events", params={"adapter": "bot"})).json()["items"]
    by_id = {message.id: message for message in messages}
    assert len(by_id) == 2
    for event in log:
        content = by_id[f"msg_{event['uid']}"].verified(webhook["secret"])
        assert content == {"type": event["kind"], "timestamp": event["at"], "data": event}
    assert messages[0].headers["content-type"] == "application/json"
    assert messages[0].headers["user-agent"].startswith("adaptry/")
    done = await settled(client, webhook, 2)
    assert [(d["state"], d["attempts"], d["status_code"]) for d in done] == [
        ("delivered", 1, 204),
        ("delivered", 1, 204),
    ]
    assert [d["event_id"] for d in done] == [event["id"] for event in log]


async def test_a_changed_message_or_another_secret_does_not_verify(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    webhook, other = await add(client, receiver), await add(client, receiver)
    await write(database, "x")
    message = (await receiver.has(2))[0]
    signers = [w for w in (webhook, other) if _verifies(message, w["secret"])]
    assert len(signers) == 1
    changed = Received(message.path, message.headers, message.body + b" ")
    assert not _verifies(changed, signers[0]["secret"])
    later = {**message.headers, "webhook-timestamp": "1"}
    assert not _verifies(Received("", later, message.body), signers[0]["secret"])


def _verifies(message: Received, secret: str) -> bool:
    try:
        message.verified(secret)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


async def test_only_subscribed_events_are_delivered(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    by_kind = await add(client, receiver, kinds=["version.registered", "webhook.added"])
    by_adapter = await add(client, receiver, adapters=["bot"])
    everything = await add(client, receiver)
    async with database.transaction() as session:
        bot = Adapter(name="bot")
        session.add(bot)
    await write(database, "other adapter's")
    await write(database, "bot's", adapter_id=row_id(bot))
    await write(database, "registration", kind=EventKind.VERSION_REGISTERED)
    await write(database, "from elsewhere", adapter_id=row_id(bot), imported=True)
    kinds = [d["kind"] for d in await settled(client, by_kind, 4)]
    assert kinds == [*["webhook.added"] * 3, "version.registered"]
    assert len(await settled(client, by_adapter, 1)) == 1
    assert [d["kind"] for d in await settled(client, everything, 3)] == [
        "alias.moved",
        "alias.moved",
        "version.registered",
    ]


async def test_while_a_secret_is_replaced_messages_are_signed_with_both(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    webhook = await add(client, receiver)
    url = f"/webhooks/{webhook['id']}/rotate-secret"
    second = (await client.post(url)).json()["secret"]
    await write(database, "x")
    message = (await receiver.has(1))[0]
    assert _verifies(message, webhook["secret"])
    assert _verifies(message, second)
    third = (await client.post(url, json={"keep_hours": 0})).json()["secret"]
    await write(database, "y")
    message = (await receiver.has(2))[1]
    assert _verifies(message, third)
    assert not _verifies(message, second)
    assert not _verifies(message, webhook["secret"])


# ---- what does not arrive --------------------------------------------------------------------


async def test_a_message_is_repeated_under_its_id_until_it_arrives(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    receiver.answers.extend([Answer(500), Answer(503), Answer(302), Answer(404), Answer(200)])
    webhook = await add(client, receiver)
    await write(database, "x")
    messages = await receiver.has(5)
    assert len({message.id for message in messages}) == 1
    assert len({message.body for message in messages}) == 1
    assert all(_verifies(message, webhook["secret"]) for message in messages)
    done = (await settled(client, webhook, 1))[0]
    assert (done["state"], done["attempts"], done["error"]) == ("delivered", 5, None)
    healthy = await state(client, webhook)
    assert (healthy["failures"], healthy["paused_until"]) == (0, None)


async def test_a_message_that_never_arrives_is_given_up_and_may_be_sent_again(
    database: Database,
    app: Any,
    receiver: Receiver,
    client: httpx.AsyncClient,
    end_events: Callable[[], Awaitable[None]],
) -> None:
    receiver.otherwise = Answer(400, body=b"I do not like it")
    webhook = await add(client, receiver)
    async with another_server(database, max_attempts=3, max_failures=100):
        await end_events()  # the other server alone delivers
        await write(database, "x")
        failed = (await settled(client, webhook, 1))[0]
    assert failed["state"] == "failed"
    assert failed["attempts"] == 3
    assert failed["error"] == "HTTP 400: I do not like it"
    assert failed["next_attempt_at"] is None
    receiver.otherwise = Answer(200)
    retry = await client.post(f"/webhooks/{webhook['id']}/deliveries/{failed['id']}/retry")
    assert (retry.status_code, retry.json()["state"]) == (202, "pending")
    async with another_server(database):
        done = (await settled(client, webhook, 1))[0]
    assert (done["id"], done["state"], done["attempts"]) == (failed["id"], "delivered", 1)
    assert len({message.id for message in receiver.received}) == 1


async def test_an_endpoint_that_always_fails_is_disabled_and_loses_nothing_by_it(
    client: httpx.AsyncClient,
    database: Database,
    receiver: Receiver,
    end_events: Callable[[], Awaitable[None]],
) -> None:
    receiver.otherwise = Answer(500)
    webhook = await add(client, receiver)
    watcher = await add(client, receiver, kinds=["webhook.disabled"])
    await end_events()
    async with another_server(database, max_failures=4):
        await write(database, *"abcdefghij")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await state(client, webhook))["enabled"]:
                await asyncio.sleep(0.02)
        disabled = await state(client, webhook)
        assert disabled["disabled_reason"] == "4 attempts in a row failed, the last: HTTP 500"
        assert disabled["pending"] == 10
        attempts = len(receiver.received)
        assert attempts <= 4 + 3, "after a failure it is tried with one message at a time"
        await write(database, "while disabled")
        receiver.otherwise = Answer(200)
        await settled(client, watcher, 1)  # the other one goes on
        told_watcher = receiver.received[-1].verified(watcher["secret"])
        assert told_watcher["type"] == "webhook.disabled"
        assert told_watcher["data"]["reason"] == disabled["disabled_reason"]
        assert len(await deliveries(client, webhook, state="pending")) == 10
        receiver.received.clear()
        await client.patch(f"/webhooks/{webhook['id']}", json={"enabled": True})
        await settled(client, webhook, 11)
    expected = [*"abcdefghij", "while disabled"]
    assert sorted(actors_in(receiver.received, webhook["secret"])) == expected


async def test_an_endpoint_that_answers_410_is_disabled_immediately(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    receiver.otherwise = Answer(410)
    webhook = await add(client, receiver)
    await write(database, "x")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await state(client, webhook))["enabled"]:
            await asyncio.sleep(0.02)
    assert (await state(client, webhook))["disabled_reason"] == "the endpoint answered 410 Gone"
    assert len(receiver.received) == 1


async def test_attempts_that_fail_together_disable_an_endpoint_once(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    receiver.otherwise = Answer(410, delay_seconds=0.3)
    webhook = await add(client, receiver)
    await write(database, *"abc")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while [d["status_code"] for d in await deliveries(client, webhook)] != [410] * 3:
            await asyncio.sleep(0.02)
    assert receiver.most_at_once == 3
    events = (await client.get("/events")).json()["items"]
    assert [event["kind"] for event in events].count("webhook.disabled") == 1


async def test_an_endpoint_that_is_enabled_again_gets_at_once_what_was_to_wait(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    """A message that had failed several times would have waited for up to six hours."""
    receiver.otherwise = Answer(410, {"retry-after": "3600"})
    webhook = await add(client, receiver)
    await write(database, "x")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await state(client, webhook))["enabled"]:
            await asyncio.sleep(0.02)
    receiver.otherwise = Answer(204)
    await client.patch(f"/webhooks/{webhook['id']}", json={"enabled": True})
    (delivery,) = await settled(client, webhook, 1)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 2)


async def test_what_another_endpoint_asked_to_wait_with_waits_on(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    """A day at most, whatever it asked for."""
    receiver.otherwise = Answer(410, {"retry-after": "999999999"})
    first, second = [await add(client, receiver) for _ in range(2)]
    await write(database, "x")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any([(await state(client, webhook))["enabled"] for webhook in (first, second)]):
            await asyncio.sleep(0.02)
    (waiting,) = await deliveries(client, second)
    wait = datetime.fromisoformat(waiting["next_attempt_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < wait <= timedelta(hours=24)
    receiver.otherwise = Answer(204)
    await client.patch(f"/webhooks/{first['id']}", json={"enabled": True})
    await settled(client, first, 1)
    assert await deliveries(client, second) == [waiting]


async def test_a_slow_endpoint_holds_up_no_other(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    receiver.otherwise = Answer(delay_seconds=30)
    slow = await add(client, receiver)
    async with receiving() as quick:
        webhook = await add(client, quick)
        await write(database, *"abcdefghijklmnopqrst")
        await settled(client, webhook, 20)
        # on a busy machine one may come twice: its answer took longer than the limit
        assert set(actors_in(quick.received, webhook["secret"])) == set("abcdefghijklmnopqrst")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (failing := await deliveries(client, slow))[0]["error"]:
            await asyncio.sleep(0.05)
    assert failing[0]["error"] == "no answer within 5 s"


async def test_no_more_messages_are_on_their_way_than_allowed(
    client: httpx.AsyncClient,
    receiver: Receiver,
    database: Database,
    end_events: Callable[[], Awaitable[None]],
) -> None:
    receiver.otherwise = Answer(delay_seconds=0.2)
    webhooks = [await add(client, receiver) for _ in range(2)]
    await end_events()
    async with another_server(database, max_sending=3):
        await write(database, *"abcde")
        for webhook in webhooks:
            await settled(client, webhook, 5)
    assert receiver.most_at_once == 3


async def test_what_is_on_its_way_when_a_server_ends_is_waited_for_and_recorded(
    client: httpx.AsyncClient,
    receiver: Receiver,
    database: Database,
    end_events: Callable[[], Awaitable[None]],
) -> None:
    receiver.otherwise = Answer(delay_seconds=0.5)
    webhook = await add(client, receiver)
    await write(database, "x")
    await receiver.has(1)
    await end_events()
    (delivery,) = await deliveries(client, webhook)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)


async def test_an_endless_answer_is_not_read(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    receiver.answers.append(Answer(500, body=b"x" * 20_000_000))
    webhook = await add(client, receiver)
    result = (await client.post(f"/webhooks/{webhook['id']}/test")).json()
    assert result["error"] == f"HTTP 500: {'x' * 500}"


# ---- the guard -------------------------------------------------------------------------------


async def test_an_address_is_checked_at_each_connection(
    client: httpx.AsyncClient,
    receiver: Receiver,
    database: Database,
    end_events: Callable[[], Awaitable[None]],
) -> None:
    webhook = await add(client, receiver)
    await end_events()
    async with another_server(database, settings=RegistrySettings()):  # allows no private network
        await write(database, "x")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := await deliveries(client, webhook)) or not found[0]["error"]:
                await asyncio.sleep(0.02)
    assert found[0]["error"].endswith("[address_not_allowed]")
    assert not receiver.received


async def test_a_redirect_is_not_followed(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    async with receiving() as secret_place:
        receiver.answers.append(Answer(307, {"location": secret_place.url}))
        webhook = await add(client, receiver)
        await write(database, "x")
        await receiver.has(2)
        await settled(client, webhook, 1)
        assert not secret_place.received


# ---- more than one server, and crashes -------------------------------------------------------


@asynccontextmanager
async def another_server(
    database: Database, settings: RegistrySettings | None = None, **limits: Any
) -> AsyncIterator[None]:
    settings = settings or RegistrySettings(allowed_networks=("127.0.0.1",))
    changed = dataclasses.replace(QUICK_WEBHOOKS, **limits)
    async with open_notifications(database, settings, changed) as parts:
        running = asyncio.create_task(parts.run(lambda: False))
        yield
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_two_servers_deliver_each_message_once(
    client: httpx.AsyncClient, receiver: Receiver, database: Database, database_url: str
) -> None:
    webhook = await add(client, receiver)
    other = Database(database_url)
    async with another_server(other):
        for n in range(20):
            await asyncio.gather(write(database, f"one {n}"), write(other, f"two {n}"))
        await settled(client, webhook, 40)
    await other.close()
    actors = Counter(actors_in(receiver.received, webhook["secret"]))
    assert actors == {f"{who} {n}": 1 for who in ("one", "two") for n in range(20)}


@pytest.fixture
async def process(
    tmp_path: Path, database_url: str, unused_tcp_port: int
) -> AsyncIterator[ServerProcess]:
    limits = dataclasses.asdict(QUICK_WEBHOOKS) | {"claim_margin_seconds": 0.2}
    server = ServerProcess(tmp_path, database_url, unused_tcp_port, limits=limits)
    yield server
    await server.kill()


async def test_a_message_that_was_being_sent_in_a_crash_is_sent_again(
    process: ServerProcess, receiver: Receiver, database: Database
) -> None:
    await process.start()
    receiver.answers.append(Answer(delay_seconds=60))
    async with httpx.AsyncClient(base_url=process.url, timeout=60) as client:
        webhook = await add(client, receiver)
        await write(database, "x")
        first = (await receiver.has(1))[0]
        await process.kill()
        await write(database, "while it was down")
        await process.start()
        await settled(client, webhook, 2)
    # more often where the process lived on after the time for an answer
    assert [message.id for message in receiver.received].count(first.id) >= 2
    assert set(actors_in(receiver.received, webhook["secret"])) == {"while it was down", "x"}


async def test_crashes_at_any_time_lose_no_message(
    process: ServerProcess, receiver: Receiver, database: Database
) -> None:
    await process.start()
    receiver.otherwise = Answer(delay_seconds=0.02)
    async with httpx.AsyncClient(base_url=process.url, timeout=30) as client:
        webhook = await add(client, receiver)
        expected = set()
        for round_number in range(3):
            for n in range(8):
                expected.add(f"{round_number} {n}")
                await write(database, f"{round_number} {n}")
            await asyncio.sleep(0.05 * round_number)
            await process.kill()
            await process.start()
        await settled(client, webhook, len(expected))
    assert set(actors_in(receiver.received, webhook["secret"])) == expected
