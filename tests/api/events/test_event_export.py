"""The export of the log: all of it, in one order, whole or recognisably not, in little memory."""

import asyncio
import gc
import hashlib
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select
from sqlmodel import col

from adaptry.cli import main
from registry.database.engine import Database
from registry.events.export import EventExport
from registry.events.hash_chain import FIRST_HASH, BrokenChain, ChainEnd, chained_line, verify_chain
from registry.events.log import EventLog
from registry.events.repository import EventFilter
from registry.events.watermark import EventWatermark
from registry.models import Event, EventKind, new_uid, now
from tests.api.conftest import AdapterMaker
from tests.api.helpers import publish_some

pytestmark = pytest.mark.both_databases

MANY, MANY_OF_LONG = 10_000, 50_000
BATCH = 5_000
PAGE = 500

Run = Callable[..., Awaitable[tuple[int, str, str]]]


async def fill(database: Database, count: int) -> None:
    began = now() - timedelta(days=1)
    for first in range(0, count, BATCH):
        rows = [
            {
                "uid": new_uid(),
                "at": began + timedelta(seconds=n),
                "actor": "äöü" if n % 7 == 0 else "ci",
                "address": "192.0.2.7" if n % 3 else None,
                "kind": EventKind.KEY_ROTATED,
                "reason": 'with ",\n,"hash":"' if n % 11 == 0 else None,
                "data": {"key": f"key-{n}"},
                "imported": False,
            }
            for n in range(first, min(first + BATCH, count))
        ]
        async with database.transaction() as session:
            await session.execute(insert(Event), rows)


async def exported(client: httpx.AsyncClient, **query: Any) -> list[bytes]:
    answer = await client.get("/events/export", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return answer.content.splitlines(keepends=True)


async def table(database: Database) -> list[tuple[Any, ...]]:
    columns = (Event.id, Event.uid, Event.at, Event.actor, Event.address, Event.kind, Event.data)
    async with database.read_session() as session:
        rows = await session.execute(select(*map(col, columns)).order_by(col(Event.id)))
        return [(r[0], r[1], r[2].isoformat(), *r[3:]) for r in rows.all()]


def row(line: bytes) -> tuple[Any, ...]:
    recorded = json.loads(line)
    at = recorded["at"].replace("Z", "+00:00")
    named = ("actor", "address", "kind", "data")
    return (recorded["id"], recorded["uid"], at, *(recorded[name] for name in named))


def alive() -> int:
    return sum(type(thing) is Event for thing in gc.get_objects())


async def test_many_events_are_the_table_in_little_memory(
    database: Database, is_long: bool
) -> None:
    many = MANY_OF_LONG if is_long else MANY
    await fill(database, many)
    log = EventLog(database, EventWatermark(database))
    lines = await EventExport(log).lines(EventFilter(), after=0, chain=FIRST_HASH)
    digest, count, end = hashlib.sha256(), 0, ChainEnd()
    gc.collect()
    before = alive()
    most_alive = largest_chunk = 0
    async for chunk in lines:
        largest_chunk = max(largest_chunk, len(chunk))
        if count % (20 * PAGE) == 0:
            most_alive = max(most_alive, alive() - before)
        for line in chunk.splitlines(keepends=True):
            digest.update(repr(row(line)).encode())
            count += 1
        end = verify_chain(chunk.splitlines(keepends=True), end)
    assert count == end.events == many
    assert most_alive <= 2 * PAGE, "the page that is sent, and the next one"
    assert largest_chunk < 2**20
    expected = hashlib.sha256()
    for kept in await table(database):
        expected.update(repr(kept).encode())
    assert digest.digest() == expected.digest()


async def test_what_the_registry_did_is_what_is_exported(
    client: httpx.AsyncClient, database: Database, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    lines = await exported(client)
    assert list(map(row, lines)) == await table(database)
    assert [json.loads(line)["adapter"] for line in lines] == ["bot"] * 4
    assert await exported(client) == lines, "the same again is the same bytes"


async def test_filters_choose(
    client: httpx.AsyncClient, database: Database, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await publish_some(client, make_adapter, "other", 1)
    of_other = await exported(client, adapter="other", kind="version.registered")
    assert [json.loads(line)["adapter"] for line in of_other] == ["other"]
    everything = await exported(client)
    times = [json.loads(line)["at"] for line in everything]
    since = await exported(client, since=times[2])
    assert [json.loads(line)["id"] for line in since] == [
        json.loads(line)["id"] for line, at in zip(everything, times, strict=True) if at >= times[2]
    ]
    assert await exported(client, until=times[0]) == []
    assert await exported(client, adapter="nobody") == []


async def test_it_goes_on_where_an_earlier_one_ended(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    first = await exported(client)
    end = verify_chain(first)
    assert await exported(client, after=end.after, chain=end.chain) == []
    await publish_some(client, make_adapter, "other", 2)
    more = await exported(client, after=end.after, chain=end.chain)
    assert first + more == await exported(client)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_bad_questions_are_problems(client: httpx.AsyncClient) -> None:
    for query in (
        {"after": -1},
        {"after": "x"},
        {"chain": "0"},
        {"chain": "Z" * 64},
        {"since": "2026-01-01"},
        {"kind": "all"},
    ):
        answer = await client.get("/events/export", params=query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), query
    answer = await client.get("/events/export", params={"adapter": "No Name"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_reference")


def lines_of(count: int) -> list[bytes]:
    chain, lines = FIRST_HASH, []
    for n in range(1, count + 1):
        line, chain = chained_line({"id": n, "kind": "alias.moved"}, chain)
        lines.append(line)
    return lines


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda lines: [lines[0].replace(b"moved", b"split"), *lines[1:]], 1),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
        (lambda lines: [*lines, lines[-1]], 6),
        (lambda lines: [*lines[:-1], lines[-1][:-5]], 5),
        (lambda lines: [*lines[:-1], lines[-1].rstrip()], 5),
        (lambda lines: [*lines, b"\n"], 6),
        (lambda lines: [*lines, b'{"id":9}\n'], 6),
        (lambda lines: [*lines, b"\xff\xfe"], 6),
    ],
)
def test_a_line_that_was_touched_is_found(
    spoil: Callable[[list[bytes]], list[bytes]], line: int
) -> None:
    lines = lines_of(5)
    assert verify_chain(lines).events == 5
    with pytest.raises(BrokenChain, match=f"line {line} "):
        verify_chain(spoil(lines))


def test_what_is_chained_but_no_event_is_no_export() -> None:
    line, _ = chained_line({"id": "first"}, FIRST_HASH)
    with pytest.raises(BrokenChain, match="no event"):
        verify_chain([line])


def test_anybody_can_check_a_line_by_the_rule_that_is_documented() -> None:
    first, second = lines_of(2)
    body, _, digest = second.rpartition(b',"hash":"')
    before = json.loads(first)["hash"]
    assert json.loads(second)["hash"] == hashlib.sha256(before.encode() + body).hexdigest()
    assert digest == json.loads(second)["hash"].encode() + b'"}\n'


async def test_the_command_exports_goes_on_and_verifies(
    run: Run, client: httpx.AsyncClient, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    file = tmp_path / "events.jsonl"
    code, out, _ = await run("events", "export", "-o", str(file))
    assert (code, f"{file}  3 events" in out) == (0, True)
    code, _, error = await run("events", "export", "-o", str(file))
    assert (code, "already exists" in error) == (1, True)
    await publish_some(client, make_adapter, "other", 1)
    code, out, _ = await run("events", "export", "-o", str(file), "--append")
    assert (code, "5 events" in out) == (0, True)
    assert file.read_bytes().splitlines(keepends=True) == await exported(client)
    code, out, _ = await run("events", "export", "--until", "2020-01-01")
    assert (code, out) == (0, "")
    code, out, _ = await run("events", "export", "--since", "2020-01-01T00:00:00", "-o", "-")
    assert (code, out.encode()) == (0, file.read_bytes())
    file.write_bytes(file.read_bytes().replace(b"bot", b"bad", 1))
    assert (await run("events", "export", "-o", str(file), "--append"))[0] == 1
    assert not list(tmp_path.glob(".*.partial"))


async def test_the_command_verifies_without_a_server(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"".join(lines_of(3)))
    assert await asyncio.to_thread(main, ["events", "verify", str(file), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["events"] == 3
    file.write_bytes(b"".join(lines_of(3)[1:]))
    assert await asyncio.to_thread(main, ["events", "verify", str(file)]) == 1
    assert "line 1 is not what followed" in capfd.readouterr().err
    assert await asyncio.to_thread(main, ["events", "verify", str(tmp_path / "none")]) == 1
