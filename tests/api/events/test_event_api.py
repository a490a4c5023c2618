"""The event log over REST: who changed what, filtered and in pages."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.database.engine import Database
from registry.models import Event, EventKind, now

pytestmark = pytest.mark.both_databases

AdapterMaker = Callable[..., Path]
Query = dict[str, Any]


async def publish(client: httpx.AsyncClient, name: str, source: Path) -> None:
    response = await client.post(f"/adapters/{name}/versions", json={"source": str(source)})
    assert response.status_code in (200, 201), response.text


async def events(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    response = await client.get("/events", params=query)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def test_an_event_says_what_was_changed_where_and_by_whom(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish(client, "bot", make_adapter("a"))
    registered, moved = await events(client)
    assert registered["id"] < moved["id"]
    assert len(registered["uid"]) == 32
    assert registered["uid"] != moved["uid"]
    assert datetime.fromisoformat(registered["at"]).tzinfo
    assert {k: v for k, v in moved.items() if k not in ("id", "uid", "at")} == {
        "actor": "api",
        "address": None,
        "kind": "alias.moved",
        "adapter": "bot",
        "alias": "default",
        "from_version": None,
        "to_version": 1,
        "reason": "first version",
        "data": {},
        "imported": False,
    }


async def test_an_event_is_there_as_soon_as_its_change_is_answered(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    for n in range(5):
        await publish(client, "bot", make_adapter(f"a{n}", seed=n))
        assert len(await events(client, kind="version.registered")) == n + 1


async def test_filters_choose_and_combine(
    client: httpx.AsyncClient, database: Database, make_adapter: AdapterMaker
) -> None:
    await publish(client, "a", make_adapter("a"))
    await publish(client, "b", make_adapter("b", seed=1))
    async with database.transaction() as session:
        session.add(Event(actor="night job", kind=EventKind.ALIAS_MOVED))
    everything = await events(client)
    assert len(everything) == 5

    async def chosen(**query: Any) -> list[int]:
        return [everything.index(event) for event in await events(client, **query)]

    assert await chosen(adapter="b") == [2, 3]
    assert await chosen(kind="alias.moved") == [1, 3, 4]
    assert await chosen(kind=["alias.moved", "version.registered"]) == [0, 1, 2, 3, 4]
    assert await chosen(actor="night job") == [4]
    assert await chosen(actor="api", kind="alias.moved", adapter="a") == [1]
    assert await chosen(since=everything[2]["at"]) == [2, 3, 4]
    assert await chosen(until=everything[2]["at"]) == [0, 1]
    assert await chosen(since=everything[1]["at"], until=everything[3]["at"]) == [1, 2]
    assert await chosen(newest_first=True, actor="api") == [3, 2, 1, 0]


async def test_a_moment_counts_in_whatever_time_zone_it_is_written(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish(client, "a", make_adapter("a"))
    hour_ago = (now() - timedelta(hours=1)).isoformat()
    assert len(await events(client, since=hour_ago)) == 2
    assert await events(client, until=hour_ago) == []
    east = hour_ago.replace("+00:00", "+03:00")  # three hours earlier
    assert len(await events(client, since=east)) == 2
    west = hour_ago.replace("+00:00", "-03:00")
    assert await events(client, since=west) == []


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_neither_repeat_nor_lose_an_event_while_others_are_added(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, newest_first: bool
) -> None:
    for n in range(3):
        await publish(client, "bot", make_adapter(f"a{n}", seed=n))
    expected = [event["id"] for event in await events(client, newest_first=newest_first)]
    seen: list[int] = []
    query: Query = {"limit": 1, "newest_first": newest_first}
    while True:
        page = (await client.get("/events", params=query)).json()
        seen += [event["id"] for event in page["items"]]
        if page["next_page_token"] is None or len(seen) == len(expected):
            break
        await publish(client, "other", make_adapter(f"o{len(seen)}", seed=9 + len(seen)))
        query["page_token"] = page["next_page_token"]
    assert seen == expected


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("adapter=nobody", 404, "unknown_adapter"),
        ("kind=version.eaten", 422, "invalid_request"),
        ("since=2026-01-01T00:00:00", 422, "invalid_request"),
        ("until=yesterday", 422, "invalid_request"),
        ("limit=0", 422, "invalid_request"),
        ("page_token=nonsense", 400, "invalid_page_token"),
        ("actor=a%00b", 422, "invalid_request"),
        ("adapter=a%00b", 400, "invalid_reference"),
        ("adapter=No%20Way", 400, "invalid_reference"),
    ],
)
async def test_refusals(client: httpx.AsyncClient, query: str, status: int, code: str) -> None:
    response = await client.get(f"/events?{query}")
    assert (response.status_code, response.json()["code"]) == (status, code)
