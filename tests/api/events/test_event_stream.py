"""The stream of events over real HTTP: resumed, never repeated, bounded, and ended in order."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from registry.api.events import create_event_router
from registry.auth.keys import KeyService
from registry.auth.scopes import Scope
from registry.database.engine import Database
from registry.events.log import EventLog, RecordedEvent
from registry.events.stream import EventStreams, close_with_server
from registry.events.watermark import EventWatermark
from registry.http.authentication import AuthenticationMiddleware
from registry.http.sse import StreamLimits
from registry.models import Adapter, Event, EventKind, row_id
from tests.support.servers.asgi_server import GRACEFUL_SECONDS, serving, take_in

pytestmark = pytest.mark.both_databases

PATIENCE = 20


class CountingLog(EventLog):
    """Knows how many events have been read for the streams."""

    read = 0

    async def between(self, *arguments: Any) -> list[RecordedEvent]:
        found = await super().between(*arguments)
        self.read += len(found)
        return found


@dataclass
class Served:
    """One server on the database."""

    url: str
    app: FastAPI
    log: CountingLog
    streams: EventStreams


@asynccontextmanager
async def event_server(
    database: Database,
    *,
    port: int = 0,
    poll_seconds: float = 0.2,
    keys: KeyService | None = None,
    **limits: Any,
) -> AsyncIterator[Served]:
    watermark = EventWatermark(database, poll_seconds=poll_seconds)
    log = CountingLog(database, watermark)
    streams = EventStreams(log, StreamLimits(**limits))
    app = FastAPI()
    take_in(app, create_event_router(log, streams))
    if keys is not None:
        app.add_middleware(AuthenticationMiddleware, authenticate=keys.authenticate)
    async with serving(app, port) as url, asyncio.TaskGroup() as tasks:
        tasks.create_task(watermark.run())
        tasks.create_task(close_with_server(watermark, lambda: app.state.server.should_exit))
        yield Served(url, app, log, streams)
        app.state.server.should_exit = True


async def write(database: Database, *actors: str, data: dict[str, Any] | None = None) -> None:
    async with database.transaction() as session:
        for actor in actors:
            session.add(Event(actor=actor, kind=EventKind.ALIAS_MOVED, data=data or {}))


@dataclass
class Reader:
    """Reads as the standard says, and keeps what a browser would."""

    url: str
    last_id: str | None = None
    key: str | None = None
    actors: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    ended = False

    async def read(
        self, until: Callable[[], bool] | None = None, **query: Any
    ) -> httpx.Headers | None:
        headers = {} if self.last_id is None else {"last-event-id": self.last_id}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            url = f"{self.url}/api/v1/events/stream"
            async with client.stream("GET", url, headers=headers, params=query) as response:
                assert response.status_code == 200, await response.aread()
                data = ""
                async for line in response.aiter_lines():
                    name, _, value = line.partition(": ")
                    if name == "id":
                        self.last_id = value
                    elif name == "data":
                        data = value
                    elif not line and data:
                        event = json.loads(data)
                        assert str(event["id"]) == self.last_id
                        self.actors.append(event["actor"])
                        self.ids.append(event["id"])
                        data = ""
                    if until is not None and until():
                        return response.headers
                self.ended = True
                return response.headers

    def has(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.ids) >= count


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def test_events_are_streamed_as_they_happen_and_as_in_rest(
    database: Database,
) -> None:
    await write(database, "before")
    async with event_server(database) as server:
        reader = Reader(server.url)
        reading = asyncio.create_task(reader.read(reader.has(2)))
        await until(lambda: server.streams.limiter.open == 1 and reader.last_id is not None)
        await write(database, "first")
        await until(reader.has(1))
        await write(database, "second")
        headers = await reading
        assert headers is not None
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-store"
        assert reader.actors == ["first", "second"], "a stream without a position begins now"
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            listed = (await client.get("/api/v1/events")).json()["items"]
        assert [event["id"] for event in listed][1:] == reader.ids


async def test_a_stream_ends_with_the_key_that_opened_it(database: Database) -> None:
    keys = KeyService(database)
    revoked, _ = await keys.create("leaver", [Scope.OPERATE], actor="tests")
    kept, _ = await keys.create("stayer", [Scope.OPERATE], actor="tests")
    async with event_server(database, keys=keys) as server:
        leaver, stayer = (Reader(server.url, key=key) for key in (revoked, kept))
        leaving, staying = (asyncio.create_task(reader.read()) for reader in (leaver, stayer))
        await until(lambda: server.streams.limiter.open == 2)
        await keys.revoke("leaver", actor="tests")
        await leaving
        assert leaver.ended, "the server ended the stream and did not just drop it"
        await write(database, "afterwards")
        await until(lambda: "afterwards" in stayer.actors)
        assert "afterwards" not in leaver.actors
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            headers = {"authorization": f"Bearer {revoked}"}
            refused = await client.get("/api/v1/events/stream", headers=headers)
        assert refused.json()["code"] == "invalid_key"
    await staying


async def test_a_stream_goes_on_after_the_position_that_is_asked_for(database: Database) -> None:
    await write(database, "a", "b", "c")
    async with event_server(database) as server:
        everything = Reader(server.url)
        await everything.read(everything.has(3), after=0)
        assert everything.actors == ["a", "b", "c"]
        rest = Reader(server.url)
        await rest.read(rest.has(1), after=everything.ids[1])
        assert rest.actors == ["c"]
        header_wins = Reader(server.url, last_id=str(everything.ids[0]))
        await header_wins.read(header_wins.has(2), after=everything.ids[2])
        assert header_wins.actors == ["b", "c"]


async def test_nothing_is_lost_or_repeated_across_a_restart(database: Database) -> None:
    async with event_server(database) as server:
        reader = Reader(server.url)
        reading = asyncio.create_task(reader.read())
        await until(lambda: reader.last_id is not None)
        await write(database, "before 1", "before 2")
        await until(reader.has(2))
    await reading
    assert reader.ended, "the server ended the stream and did not just drop it"
    await write(database, "between")
    async with event_server(database) as server:
        reader.url = server.url
        await write(database, "after")
        await reader.read(reader.has(4))
    assert reader.actors == ["before 1", "before 2", "between", "after"]


async def test_readers_who_come_and_go_see_every_event_of_two_servers_once(
    database: Database, database_url: str
) -> None:
    other = Database(database_url)
    async with event_server(database) as one, event_server(other) as two:
        readers = [Reader(one.url, "0"), Reader(two.url, "0")]

        async def read_on(reader: Reader) -> None:
            while len(reader.ids) < 120:
                await reader.read(reader.has(min(120, len(reader.ids) + 9)))
                reader.url = two.url if reader.url == one.url else one.url

        async def slowly(where: Database, who: str) -> None:
            for number in range(20):
                async with where.transaction() as session:
                    for part in "abc":
                        actor = f"{who} {number} {part}"
                        session.add(Event(actor=actor, kind=EventKind.ALIAS_MOVED))
                        await session.flush()
                        await asyncio.sleep(0.003)

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for reader in readers:
                tasks.create_task(read_on(reader))
            tasks.create_task(slowly(database, "one"))
            tasks.create_task(slowly(other, "two"))
    await other.close()
    expected = {f"{who} {n} {part}" for who in ("one", "two") for n in range(20) for part in "abc"}
    for reader in readers:
        assert reader.ids == sorted(reader.ids)
        assert sorted(reader.actors) == sorted(expected)


async def test_a_filtered_stream_skips_the_rest_and_keeps_its_position(database: Database) -> None:
    async with database.transaction() as session:
        bot = Adapter(name="bot")
        session.add(bot)
        await session.flush()
        session.add(Event(actor="x", kind=EventKind.ALIAS_MOVED, adapter_id=row_id(bot)))
        session.add(Event(actor="y", kind=EventKind.ALIAS_MOVED, adapter_id=row_id(bot)))
        session.add(Event(actor="y", kind=EventKind.VERSION_REGISTERED, adapter_id=row_id(bot)))
    await write(database, "z", "z")
    async with event_server(database, heartbeat_seconds=0.1) as server:
        for query, expected in [
            ({"adapter": "bot"}, ["x", "y", "y"]),
            ({"adapter": "bot", "kind": "alias.moved"}, ["x", "y"]),
            ({"actor": "y"}, ["y", "y"]),
        ]:
            reader = Reader(server.url)
            await reader.read(lambda r=reader: r.last_id == "5", after=0, **query)  # type: ignore[misc]  # a late-binding loop variable
            assert reader.actors == expected
        nothing = Reader(server.url)
        await nothing.read(lambda: nothing.last_id == "5", after=0, adapter="later")
        assert nothing.actors == []


async def test_a_quiet_stream_shows_that_it_lives(database: Database) -> None:
    async with event_server(database, heartbeat_seconds=0.05) as server:
        beats = 0

        def beat() -> bool:
            nonlocal beats
            beats += 1
            return beats > 30  # lines; a heartbeat has three

        await Reader(server.url).read(beat)
    assert beats > 30


@contextmanager
def stalled_reader(url: str) -> Iterator[None]:
    """Asks for everything and takes nothing."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((host, int(port)))
        stalled.sendall(b"GET /api/v1/events/stream?after=0 HTTP/1.1\r\nhost: x\r\n\r\n")
        yield


async def write_16_megabytes(database: Database) -> None:
    for _ in range(10):
        await write(database, *["x"] * 200, data={"filler": "y" * 8000})


async def test_a_stalled_client_costs_little_and_stops_no_other(
    database: Database,
) -> None:
    await write_16_megabytes(database)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(event_server(database))
        with stalled_reader(server.url):
            await until(lambda: server.log.read > 0)
            quick = Reader(server.url)
            await quick.read(quick.has(2000), after=0)
            await asyncio.sleep(0.5)
            for_the_stalled = server.log.read - 2000
            assert 0 < for_the_stalled < 1500, "the rest waits in the database"
            await until(lambda: server.streams.limiter.open == 1)
            async with asyncio.timeout(GRACEFUL_SECONDS + 5):  # it can't hold up the server's end
                await stack.aclose()
            assert server.streams.limiter.open == 0


async def test_a_reader_who_takes_nothing_for_long_is_let_go(database: Database) -> None:
    await write_16_megabytes(database)
    async with event_server(database, stall_seconds=0.3) as server:
        with stalled_reader(server.url):
            await until(lambda: server.streams.limiter.open == 1)
            await until(lambda: server.streams.limiter.open == 0)


async def test_a_client_that_disconnects_is_forgotten_immediately(database: Database) -> None:
    async with event_server(database) as server:
        readers = [Reader(server.url) for _ in range(3)]
        reading = [asyncio.create_task(reader.read()) for reader in readers]
        await until(lambda: server.streams.limiter.open == 3)
        for task in reading:
            task.cancel()
        await until(lambda: server.streams.limiter.open == 0)


async def test_streams_are_limited(database: Database) -> None:
    async with event_server(database, max_streams=1) as server:
        reading = asyncio.create_task(Reader(server.url).read())
        await until(lambda: server.streams.limiter.open == 1)
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            refused = await client.get("/api/v1/events/stream")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
        reading.cancel()
        await until(lambda: server.streams.limiter.open == 0)


async def test_those_that_come_at_the_same_time_are_limited_too(database: Database) -> None:
    async with (
        event_server(database, max_streams=1) as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as client,
    ):
        requests = [client.build_request("GET", "/api/v1/events/stream") for _ in range(8)]
        answers = await asyncio.gather(*(client.send(each, stream=True) for each in requests))
        assert sorted(answer.status_code for answer in answers) == [200, *[503] * 7]
        for answer in answers:
            await answer.aclose()


@pytest.mark.parametrize(
    ("query", "last_event_id", "status", "code"),
    [
        ("", "x", 400, "invalid_event_id"),
        ("", "-1", 400, "invalid_event_id"),
        ("", "9" * 30, 400, "invalid_event_id"),
        ("", "9" * 99, 422, "invalid_request"),
        ("after=-1", None, 422, "invalid_request"),
        ("kind=eaten", None, 422, "invalid_request"),
        ("adapter=No/Way", None, 400, "invalid_reference"),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, query: str, last_event_id: str | None, status: int, code: str
) -> None:
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    response = await client.get(f"/events/stream?{query}", headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
