"""Rates that servers count together in a real Redis: exact, swept, and kept up while it is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine.bootstrap.rates import open_rate_windows
from registry.database.engine import Database
from registry.rates.redis_storage import RedisStorage
from registry.rates.windows import MINUTE, RateWindows
from registry.settings import RegistrySettings
from tests.support.servers.redis_server import RedisServer


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    while time.time() % MINUTE > MINUTE - 10:  # else the sums would be split over two minutes
        await asyncio.sleep(0.2)
    server = RedisServer(tmp_path)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def alone() -> list[int]:
    """One item for each take that a server counted alone."""
    return []


@pytest.fixture
async def windows(redis: RedisServer, alone: list[int]) -> AsyncIterator[list[RateWindows]]:
    """Of two servers."""
    storages = [
        RedisStorage(
            redis.url,
            lambda: alone.append(1),
            answer_seconds=30,  # a busy machine is not a Redis that is away
            away_seconds=0.2,
        )
        for _ in range(2)
    ]
    yield [RateWindows(storage) for storage in storages]
    for storage in storages:
        await storage.close()


async def test_no_more_is_taken_at_the_same_time_than_there_is(
    windows: Sequence[RateWindows], alone: list[int]
) -> None:
    taken = await asyncio.gather(*(windows[n % 2].take("key ci", 10, 3) for n in range(60)))
    assert sum(taken) == 3, "three times 3 of 10"
    assert await windows[0].take("key ci", 10, 1)
    assert not await windows[1].take("key ci", 10, 1)
    assert (await windows[0].state("key ci", 10)).remaining == 0
    assert not alone


async def test_what_another_server_counted_is_shown_once_it_is_asked_for(
    windows: Sequence[RateWindows], redis: RedisServer, alone: list[int]
) -> None:
    assert await windows[0].take("key ci", 10, 3)
    assert (await windows[1].state("key ci", 10)).used == 0, "it never asked"
    await windows[1].refresh([("key ci", 10), ("key other", 5)])
    assert (await windows[1].state("key ci", 10)).used == 3
    assert windows[1].known_used("key ci", 10) == 3
    await redis.stop()
    await windows[1].refresh([("key ci", 10)])
    assert (await windows[1].state("key ci", 10)).used == 3, "as it was last read"
    assert alone == [1]


async def test_a_correction_by_one_server_counts_at_the_other(
    windows: Sequence[RateWindows],
) -> None:
    one, other = windows
    assert await one.take("tokens of key ci", 100, 90)
    assert not await other.take("tokens of key ci", 100, 20)
    await one.correct("tokens of key ci", 100, one.minute(), -80)
    assert await other.take("tokens of key ci", 100, 20)
    assert (await other.state("tokens of key ci", 100)).remaining == 70


async def test_the_minute_before_counts_by_its_part_and_is_forgotten_later(
    redis: RedisServer, windows: Sequence[RateWindows]
) -> None:
    one = windows[0]
    await one.correct("key ci", 1000, one.minute() - 1, 1000)
    weight = 1 - time.time() % MINUTE / MINUTE
    state = (await one.take("key ci", 1000, 1), await one.state("key ci", 1000))
    assert state[0]
    assert abs(state[1].remaining - (999 - 1000 * weight)) < 100
    reader, writer = await asyncio.open_connection("127.0.0.1", redis.port)
    writer.write(b"KEYS *\r\n")
    lines = [await reader.readline() for _ in range(5)]
    name = lines[2].strip()
    writer.write(b'TTL "%s"\r\n' % name)
    assert 0 < int((await reader.readline()).strip(b":\r\n")) <= 2 * MINUTE
    writer.close()


async def test_while_it_is_away_each_server_counts_on_its_own_from_what_it_knew(
    redis: RedisServer, windows: Sequence[RateWindows], alone: list[int]
) -> None:
    one, other = windows
    for _ in range(2):
        assert await one.take("key ci", 4, 1)
    await redis.stop()
    assert [await one.take("key ci", 4, 1) for _ in range(3)] == [True, True, False]
    assert [await other.take("key ci", 4, 1) for _ in range(5)] == [True] * 4 + [False]
    assert len(alone) == 8
    await one.correct("key ci", 4, one.minute(), -1)
    assert await one.take("key ci", 4, 1)
    await redis.start()
    await asyncio.sleep(0.3)
    before = len(alone)
    assert await one.take("key ci", 4, 4), "they count together again, from nothing"
    await asyncio.sleep(0.3)
    assert not await other.take("key ci", 4, 1)
    assert len(alone) == before


async def test_a_redis_that_stands_still_makes_one_request_wait_and_no_other() -> None:
    connections = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.read()

    silent = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    storage = RedisStorage(f"redis://127.0.0.1:{port}/0", clock=lambda: 0.0)
    windows = RateWindows(storage)
    for _ in range(50):
        assert await windows.take("key ci", 100, 1)
    assert len(connections) == 1, "only the first has asked"
    await storage.close()
    for writer in connections:
        writer.close()
    silent.close()


async def test_servers_are_told_by_their_settings_to_share(
    redis: RedisServer, tmp_path: Path
) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/none.db")
    settings = RegistrySettings.model_validate({"rates_url": redis.url})
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(open_rate_windows(database, settings, lambda: None))
            for _ in range(2)
        ]
        assert await one.take("key ci", 1, 1)
        assert not await other.take("key ci", 1, 1)
    await database.close()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"rates_url": "http://127.0.0.1"}, "begins with redis://"),
        ({"rates_url": "redis://127.0.0.1", "share_rates": True}, "in one place only"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_the_start(
    settings: dict[str, object], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        RegistrySettings.model_validate(settings)


def test_its_password_is_not_shown() -> None:
    settings = RegistrySettings.model_validate({"rates_url": "redis://:hush@127.0.0.1/0"})
    assert "hush" not in repr(settings)
