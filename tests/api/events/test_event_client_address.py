"""Where a change came from: as the server saw it, and past no proxy that is not trusted."""

import asyncio
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from adaptry.cli import main
from registry.auth.client_address import client_address
from registry.database.engine import Database
from registry.events.log import EventLog
from registry.events.repository import EventFilter
from registry.events.watermark import EventWatermark
from registry.http.trusted_proxies import ClientAddressMiddleware
from registry.service import RegistryService
from tests.api.conftest import AdapterMaker
from tests.api.helpers import publish
from tests.support.servers.asgi_server import serving
from tests.support.servers.webhook_receiver import Receiver

TRUSTED = tuple(map(ip_network, ("10.0.0.0/8", "fd00::/8")))


async def seen_address(peer: str | None, *forwarded: str, trusted: Any = TRUSTED) -> str | None:
    """The client address that the application sees."""
    seen: list[str | None] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(client_address())

    async def nothing(*_: object) -> Any:
        raise AssertionError("neither read nor answered")

    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    client = None if peer is None else (peer, 1234)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": client}
    await ClientAddressMiddleware(application, trusted=trusted)(scope, nothing, nothing)
    return seen[0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.7", (), "192.0.2.7"),
        ("192.0.2.7", ("198.51.100.1",), "192.0.2.7"),  # it may say so, and is not believed
        ("127.0.0.1", ("198.51.100.1",), "127.0.0.1"),  # nor is a process on this machine
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("203.0.113.9, 198.51.100.1",), "198.51.100.1"),  # the client wrote the left
        ("10.0.0.1", ("203.0.113.9", "198.51.100.1"), "198.51.100.1"),  # in two lines
        ("10.0.0.1", ("198.51.100.1, 10.2.3.4",), "198.51.100.1"),  # two proxies of ours
        ("10.0.0.1", ("10.2.3.5, 10.2.3.4",), "10.2.3.5"),  # a client of our own network
        ("10.0.0.1", ("198.51.100.1:5678",), "198.51.100.1"),
        ("10.0.0.1", ("[2001:db8::1]:5678",), "2001:db8::1"),
        ("10.0.0.1", ("2001:db8::1",), "2001:db8::1"),
        ("10.0.0.1", ("unknown",), "10.0.0.1"),
        ("10.0.0.1", ("<script>, 10.0.0.9",), "10.0.0.9"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", (",,,",), "10.0.0.1"),
        ("10.0.0.1", ("9" * 5000,), "10.0.0.1"),
        ("fd00::1", ("2001:db8::1",), "2001:db8::1"),
        ("::ffff:10.0.0.1", ("::ffff:198.51.100.1",), "198.51.100.1"),
        ("::ffff:192.0.2.7", ("198.51.100.1",), "192.0.2.7"),
        ("testclient", ("198.51.100.1",), "testclient"),  # no address at all: a socket of its own
        (None, ("198.51.100.1",), None),
    ],
)
async def test_the_address_is_what_the_last_trusted_proxy_saw(
    peer: str | None, forwarded: tuple[str, ...], expected: str | None
) -> None:
    assert await seen_address(peer, *forwarded) == expected


async def test_by_default_no_proxy_is_trusted() -> None:
    assert await seen_address("10.0.0.1", "198.51.100.1", trusted=()) == "10.0.0.1"


async def recorded(database: Database) -> list[tuple[str, str | None]]:
    watermark = EventWatermark(database)
    up_to = await watermark.catch_up()
    found = await EventLog(database, watermark).between(0, up_to, EventFilter(), 1000)
    return [(one.event.kind, one.event.address) for one in found]


async def test_a_request_over_a_socket_is_recorded_with_its_address(
    app: FastAPI, database: Database, make_adapter: AdapterMaker
) -> None:
    app.add_middleware(ClientAddressMiddleware)
    source = make_adapter("a")
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=60) as client,
    ):
        client.headers["x-forwarded-for"] = "198.51.100.1"
        assert (await publish(client, "bot", source)).status_code == 201
        reported = (await client.get("/events")).json()["items"]
    assert {event["address"] for event in reported} == {"127.0.0.1"}
    assert {address for _, address in await recorded(database)} == {"127.0.0.1"}


async def test_a_job_is_recorded_with_the_address_that_asked_for_it(
    app: FastAPI, database: Database, make_adapter: AdapterMaker, ingest: Any
) -> None:
    """Even though a worker does it later, outside of any request."""
    app.add_middleware(ClientAddressMiddleware)
    folder = make_adapter("a")
    files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=60) as client,
    ):
        job = (await client.post("/adapters/bot/versions?wait=0", files=files)).json()
        working = asyncio.create_task(ingest.run())
        async with asyncio.timeout(30):
            while (await client.get(f"/jobs/{job['id']}")).json()["state"] != "succeeded":
                await asyncio.sleep(0.02)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    addresses = dict(await recorded(database))
    assert addresses == {"version.registered": "127.0.0.1", "alias.moved": "127.0.0.1"}


async def test_a_cancellation_records_the_caller_who_requested_it(
    app: FastAPI, database: Database, make_adapter: AdapterMaker
) -> None:
    app.add_middleware(ClientAddressMiddleware)
    folder = make_adapter("a")
    files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=60) as client,
    ):
        job = (await client.post("/adapters/new/versions?wait=0", files=files)).json()
        cancelled = await client.post(f"/jobs/{job['id']}/cancel")
        assert cancelled.json()["state"] == "cancelled", cancelled.text
        (event,) = (await client.get("/events")).json()["items"]
    assert (event["kind"], event["address"]) == ("ingest.cancelled", "127.0.0.1")
    assert event["data"] == {"job": job["id"], "adapter": "new"}


async def test_what_many_may_look_at_has_no_addresses(
    app: FastAPI, make_adapter: AdapterMaker, receiver: Receiver
) -> None:
    app.add_middleware(ClientAddressMiddleware)
    source = make_adapter("a")
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=60) as client,
    ):
        added = await client.post("/webhooks", json={"url": receiver.url})
        assert added.status_code == 201, added.text
        assert (await publish(client, "bot", source)).status_code == 201
        of_adapter = (await client.get("/adapters/bot/events")).json()["items"]
        reported = await receiver.has(2)
    assert [event["address"] for event in of_adapter] == [None, None]
    assert b"127.0.0.1" not in b"".join(message.body for message in reported)


async def test_changes_without_a_request_have_no_address(
    service: RegistryService, database: Database, make_adapter: AdapterMaker
) -> None:
    await service.registrar.register("bot", str(make_adapter("a")), actor="tests")
    await service.lifecycle.quarantine("bot:1", "broken", "files", "engine")
    assert {address for _, address in await recorded(database)} == {None}


async def test_a_command_in_the_database_itself_is_local(
    database: Database, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["key", "create", "root", "--scope", "admin", "--database", database_url]
    assert await asyncio.to_thread(main, arguments) == 0
    assert capfd.readouterr().out.startswith("adp_")
    assert await recorded(database) == [("key.created", "local")]
