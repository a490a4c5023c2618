"""Webhooks over REST: added, changed, tried, looked after, and every refusal once."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from registry.database.engine import Database
from registry.models import Event, EventKind, now
from tests.support.servers.webhook_receiver import Answer, Receiver, add

Json = dict[str, Any]


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Json:
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    content: Json = response.json()
    return content


async def test_a_webhook_is_shown_as_it_was_added_but_for_its_secret(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    wanted = {"kinds": ["alias.moved"], "adapters": ["bot"], "description": "deployments"}
    added = await add(client, receiver, **wanted)
    assert added.pop("secret").startswith("whsec_")
    assert {key: added[key] for key in wanted} == wanted
    assert (added["enabled"], added["failures"], added["pending"]) == (True, 0, 0)
    assert await get(client, f"/webhooks/{added['id']}") == added
    assert await get(client, "/webhooks") == {"items": [added], "next_page_token": None}


async def test_each_secret_is_another_and_none_is_shown_twice(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    added = await add(client, receiver)
    url = f"/webhooks/{added['id']}"
    rotated = (await client.post(f"{url}/rotate-secret", json={"keep_hours": 1})).json()
    secrets = [added["secret"], rotated["secret"], (await add(client, receiver))["secret"]]
    assert len(set(secrets)) == 3
    until = datetime.fromisoformat(rotated["previous_valid_until"])
    assert timedelta(minutes=59) < until - now() <= timedelta(hours=1)
    answers = [
        await client.get(url),
        await client.get("/webhooks"),
        await client.patch(url, json={"description": "x"}),
        await client.post(f"{url}/test"),
        await client.get(f"{url}/deliveries"),
        await client.get("/events"),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert not [secret for secret in secrets if secret in answer.text]


@pytest.mark.both_databases
async def test_only_what_is_named_is_changed(client: httpx.AsyncClient, receiver: Receiver) -> None:
    added = await add(client, receiver, kinds=["alias.moved"], description="old")
    del added["secret"]
    url = f"/webhooks/{added['id']}"
    changed = await client.patch(url, json={"description": "new"})
    assert changed.json() == {**added, "description": "new"}
    changed = await client.patch(url, json={"kinds": [], "adapters": ["bot"], "description": None})
    expected = {**added, "kinds": [], "adapters": ["bot"], "description": None}
    assert changed.json() == expected
    off = await client.patch(url, json={"enabled": False})
    assert off.json() == {**expected, "enabled": False, "disabled_reason": "switched off"}
    assert (await client.patch(url, json={"enabled": True})).json() == expected
    assert await get(client, url) == expected


@pytest.mark.both_databases
async def test_a_removed_webhook_is_deleted_with_its_deliveries(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    added = await add(client, receiver)
    url = f"/webhooks/{added['id']}"
    assert (await client.post(f"{url}/test")).status_code == 200
    removed = await client.delete(url)
    assert (removed.status_code, removed.content) == (204, b"")
    for answer in (await client.get(url), await client.get(f"{url}/deliveries")):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_webhook")
    assert (await add(client, receiver))["id"] > added["id"], "no id is given out again"


async def test_every_change_of_a_webhook_is_an_event_that_gives_no_url_away(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    response = await client.post("/webhooks", json={"url": f"{receiver.url}/T0K3N?key=S3CR3T"})
    url = f"/webhooks/{response.json()['id']}"
    await client.patch(url, json={"kinds": []})
    await client.post(f"{url}/rotate-secret")
    await client.delete(url)
    answer = await client.get("/events")
    assert "T0K3N" not in answer.text
    assert "S3CR3T" not in answer.text
    recorded = [
        (e["kind"], e["data"]["host"], e["data"].get("changed")) for e in answer.json()["items"]
    ]
    assert recorded == [
        ("webhook.added", "127.0.0.1", None),
        ("webhook.changed", "127.0.0.1", ["kinds"]),
        ("webhook.changed", "127.0.0.1", ["secret"]),
        ("webhook.removed", "127.0.0.1", None),
    ]


async def test_a_test_is_sent_immediately_and_returns_its_outcome(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    added = await add(client, receiver, kinds=["alias.moved"])
    url = f"/webhooks/{added['id']}"
    await client.patch(url, json={"enabled": False})
    receiver.answers.extend([Answer(200), Answer(500, body=b"no such\n table"), Answer(302)])
    delivered, failed, redirected = [(await client.post(f"{url}/test")).json() for _ in range(3)]
    assert (delivered["state"], delivered["status_code"], delivered["error"]) == (
        "delivered",
        200,
        None,
    )
    assert (failed["state"], failed["error"]) == ("failed", "HTTP 500: no such table")
    assert redirected["error"] == "it redirects; redirects are not followed"
    assert len(receiver.received) == 3, "a test is sent once, whatever comes of it"
    content = receiver.received[0].verified(added["secret"])
    assert content["type"] == "webhook.test"
    assert content["data"] == {"webhook": added["id"]}
    assert receiver.received[0].id == delivered["message_id"]
    listed = await get(client, f"{url}/deliveries")
    assert listed["items"] == [redirected, failed, delivered]
    assert (await get(client, url))["failures"] == 0, "tests count for nothing"


@pytest.mark.both_databases
async def test_deliveries_are_listed_by_state_and_in_pages(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    added = await add(client, receiver)
    url = f"/webhooks/{added['id']}"
    receiver.answers.extend(Answer(status) for status in (200, 500, 200, 500, 200))
    ids = [(await client.post(f"{url}/test")).json()["id"] for _ in range(5)]
    failed = await get(client, f"{url}/deliveries", state="failed")
    assert [delivery["id"] for delivery in failed["items"]] == [ids[3], ids[1]]
    seen: list[int] = []
    query: Json = {"limit": 2}
    while len(seen) < 9:
        page = await get(client, f"{url}/deliveries", **query)
        seen += [delivery["id"] for delivery in page["items"]]
        if page["next_page_token"] is None:
            break
        query["page_token"] = page["next_page_token"]
    assert seen == ids[::-1]


@pytest.mark.both_databases
async def test_webhooks_are_listed_in_pages(client: httpx.AsyncClient, receiver: Receiver) -> None:
    ids = [(await add(client, receiver))["id"] for _ in range(3)]
    first = await get(client, "/webhooks", limit=2)
    rest = await get(client, "/webhooks", limit=2, page_token=first["next_page_token"])
    assert [webhook["id"] for webhook in first["items"] + rest["items"]] == ids
    assert rest["next_page_token"] is None


@pytest.mark.both_databases
async def test_what_waits_for_a_webhook_is_counted(
    client: httpx.AsyncClient, receiver: Receiver, database: Database
) -> None:
    receiver.otherwise = Answer(delay_seconds=0.5)
    added = await add(client, receiver)
    async with database.transaction() as session:
        for _ in range(3):
            session.add(Event(actor="x", kind=EventKind.ALIAS_MOVED))
    await receiver.has(1)
    assert (await get(client, f"/webhooks/{added['id']}"))["pending"] == 3
    await receiver.has(3)
    async with asyncio.timeout(30):
        while (await get(client, f"/webhooks/{added['id']}"))["pending"]:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("http://10.0.0.1/", 403, "address_not_allowed"),
        ("http://169.254.169.254/latest/meta-data", 403, "address_not_allowed"),
        ("http://[::1]:8000/", 403, "address_not_allowed"),
        ("http://127.0.0.2/", 403, "address_not_allowed"),
        ("http://0x0a000001/", 403, "address_not_allowed"),
        ("http://[::ffff:10.0.0.1]/", 403, "address_not_allowed"),
        ("http://nobody.invalid/", 422, "host_unknown"),
        ("ftp://127.0.0.1/", 422, "invalid_url"),
        ("file:///etc/passwd", 422, "invalid_url"),
        ("127.0.0.1", 422, "invalid_url"),
        ("http://", 422, "invalid_url"),
        ("http://127.0.0.1:99999/", 422, "invalid_url"),
        ("http://me:secret@127.0.0.1/", 422, "invalid_url"),
        ("http://127.0.0.1/#part", 422, "invalid_url"),
        ("http://127.0.0.1/\n", 422, "invalid_url"),
        ("http://127.0.0.1/\0", 422, "invalid_request"),
        ("http://127.0.0.1/\ud800", 422, "invalid_request"),
        ("x" * 3000, 422, "invalid_request"),
    ],
)
async def test_urls_that_are_refused(
    client: httpx.AsyncClient, receiver: Receiver, url: str, status: int, code: str
) -> None:
    content = json.dumps({"url": url})
    headers = {"content-type": "application/json"}
    refused = await client.post("/webhooks", content=content, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    added = await add(client, receiver)
    path = f"/webhooks/{added['id']}"
    refused = await client.patch(path, content=content, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert (await get(client, path))["url"] == receiver.url


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/webhooks/9", None, 404, "unknown_webhook"),
        ("GET", "/webhooks/0", None, 422, "invalid_request"),
        ("GET", "/webhooks/99999999999", None, 422, "invalid_request"),
        ("GET", "/webhooks?page_token=x", None, 400, "invalid_page_token"),
        ("PATCH", "/webhooks/9", {"enabled": True}, 404, "unknown_webhook"),
        ("PATCH", "/webhooks/1", {"secret": "mine"}, 422, "invalid_request"),
        ("PATCH", "/webhooks/1", {"url": None}, 422, "invalid_request"),
        ("PATCH", "/webhooks/1", {"enabled": None}, 422, "invalid_request"),
        ("PATCH", "/webhooks/1", {"kinds": ["eaten"]}, 422, "invalid_request"),
        ("DELETE", "/webhooks/9", None, 404, "unknown_webhook"),
        ("POST", "/webhooks", {}, 422, "invalid_request"),
        ("POST", "/webhooks", {"url": 1}, 422, "invalid_request"),
        ("POST", "/webhooks/9/test", None, 404, "unknown_webhook"),
        ("POST", "/webhooks/9/rotate-secret", None, 404, "unknown_webhook"),
        ("POST", "/webhooks/1/rotate-secret", {"keep_hours": -1}, 422, "invalid_request"),
        ("POST", "/webhooks/1/rotate-secret", {"keep_hours": 1e9}, 422, "invalid_request"),
        ("GET", "/webhooks/9/deliveries", None, 404, "unknown_webhook"),
        ("GET", "/webhooks/1/deliveries?state=eaten", None, 422, "invalid_request"),
        ("POST", "/webhooks/1/deliveries/9/retry", None, 404, "unknown_delivery"),
        ("POST", "/webhooks/9/deliveries/1/retry", None, 404, "unknown_webhook"),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient,
    receiver: Receiver,
    method: str,
    path: str,
    body: object,
    status: int,
    code: str,
) -> None:
    await add(client, receiver)
    refused = await client.request(method, path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert refused.headers["content-type"] == "application/problem+json"


async def test_there_are_so_many_webhooks_at_most(
    client: httpx.AsyncClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.webhooks.service.MAX_WEBHOOKS", 2)
    first, _ = [await add(client, receiver) for _ in range(2)]
    refused = await client.post("/webhooks", json={"url": receiver.url})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_webhooks")
    assert (await client.delete(f"/webhooks/{first['id']}")).is_success
    await add(client, receiver)
