"""Servers that share a database: none wipes, inherits or ends what another has pinned or loaded."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from registry.cache_history import CacheHistoryStore, HistoryRow
from registry.database.engine import Database
from registry.errors import ServerRunning, UnknownServer
from registry.residency import ResidencyStore
from registry.servers import ServerDirectory, ServerResidency, default_server_id
from tests.db.test_residency import publish

pytestmark = pytest.mark.both_databases


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    yield made
    await made.close()


async def start(database: Database, name: str) -> ResidencyStore:
    """As the server does, each time that it starts."""
    store = ResidencyStore(database, name)
    await store.open()
    return store


async def pinned(database: Database, name: str) -> list[str]:
    return [pin.reference for pin in await (await start(database, name)).pins()]


async def test_each_server_warms_up_what_it_had_itself(database: Database) -> None:
    upper, stars = [await publish(database, name) for name in ("upper", "stars")]
    await (await start(database, "a")).save_residents([upper.id])
    await (await start(database, "b")).save_residents([stars.id])
    assert await (await start(database, "a")).residents() == ["upper:1"]
    assert await (await start(database, "b")).residents() == ["stars:1"]
    assert await (await start(database, "c")).residents() == [], "nothing is inherited"


async def test_a_pin_is_one_server_s_and_ends_with_that_server_s_unpin(database: Database) -> None:
    upper = await publish(database, "upper")
    a, b = await start(database, "a"), await start(database, "b")
    await a.save_pin(upper.id, "gpu", None, actor="sre")
    assert await pinned(database, "b") == []
    await b.save_pin(upper.id, "host", None, actor="sre")
    await b.remove_pin(upper.id, actor="sre")
    await b.expire_pins([upper.id])
    assert await pinned(database, "a") == ["upper:1"]
    assert [pin.tier for pin in await a.pins()] == ["gpu"]


async def test_all_servers_are_seen_side_by_side(database: Database) -> None:
    upper = await publish(database, "upper")
    await (await start(database, "a")).save_pin(upper.id, "gpu", None, actor="sre")
    await (await start(database, "b")).save_residents([upper.id])

    def shown(server: ServerResidency) -> tuple[str, bool, list[str], list[str]]:
        pins = [pin.reference for pin in server.pins]
        return server.name, server.is_this, pins, server.residents

    found = await ServerDirectory(database, "b").all()
    assert [shown(server) for server in found] == [
        ("a", False, ["upper:1"], []),
        ("b", True, [], ["upper:1"]),
    ]


async def test_the_first_server_takes_what_was_there_before_servers_had_names(
    database: Database,
) -> None:
    upper = await publish(database, "upper")
    before = ResidencyStore(database, "")
    await before.save_pin(upper.id, "gpu", None, actor="sre")
    await before.save_residents([upper.id])
    assert await pinned(database, "a") == ["upper:1"]
    assert await ResidencyStore(database, "a").residents() == ["upper:1"]
    assert await pinned(database, "b") == []


async def test_a_server_that_was_removed_is_forgotten_with_its_pins(database: Database) -> None:
    upper = await publish(database, "upper")
    await (await start(database, "gone")).save_pin(upper.id, "gpu", None, actor="sre")
    await start(database, "here")
    servers = ServerDirectory(database, "here")
    await servers.forget("gone", actor="sre")
    assert [server.name for server in await servers.all()] == ["here"]
    assert await pinned(database, "gone") == []
    with pytest.raises(UnknownServer):
        await servers.forget("never", actor="sre")
    with pytest.raises(ServerRunning):
        await servers.forget("here", actor="sre")
    async with database.read_session() as session:
        found = await session.execute(text("SELECT kind, actor FROM event ORDER BY id DESC"))
        assert tuple(found.first() or ()) == ("server.forgotten", "sre")


async def test_a_fleet_is_forgotten_with_the_history_of_its_replicas(database: Database) -> None:
    await start(database, "fleet_1")
    stores = {
        name: CacheHistoryStore(database, name, keep_seconds=3600, max_bytes=1000)
        for name in (
            "fleet_1",
            "fleet_1~one",
            "fleet_1~two",
            "fleet_10",
            "fleetX1~one",
            "Fleet_1~one",
        )
    }
    for store in stores.values():
        await store.save(HistoryRow(1, 9, {}, b"x"))
    here = stores["fleet_10"]
    assert await here.replicas("fleet_1", 0, 5) == ["fleet_1~one", "fleet_1~two"]
    assert await here.replicas("fleet_1", 10, 15) == [], "they ran before"
    await ServerDirectory(database, "here").forget("fleet_1", actor="sre")
    assert set(await here.servers()) == {"Fleet_1~one", "fleetX1~one", "fleet_10"}


def test_the_default_name_is_stable_where_one_machine_is_all_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node-7")
    assert default_server_id("sqlite+aiosqlite:///x.db", 8000) == "localhost:8000"
    assert default_server_id("postgresql+asyncpg://db/x", 8000) == "node-7:8000"
