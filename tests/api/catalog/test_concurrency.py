"""Several servers on one database and one store, changing the same adapter concurrently."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from engine.resolver import RegistryResolver
from registry.aliases.promotion import Preparation
from registry.database.change_poller import ChangePoller
from registry.database.engine import Database
from registry.errors import AliasMoved, NothingToRollBack, UnknownAlias, VersionUnavailable
from registry.models import Event
from registry.references import parse_reference
from registry.service import RegistryService
from registry.storage.store import ArtifactStore
from tests.api.helpers import AdapterMaker

pytestmark = pytest.mark.both_databases


@pytest.fixture
async def servers(
    service: RegistryService, database_url: str, tmp_path: Path
) -> AsyncIterator[list[RegistryService]]:
    """As two processes would be: each with connections and locks of its own."""
    database = Database(database_url)
    store = ArtifactStore(
        tmp_path / "store", source_roots=[tmp_path / "sources"], max_bytes=1_000_000
    )
    store.open()
    second = RegistryService(database, store, service.base_model, max_rank=16)
    yield [service, second]
    await database.close()


async def test_concurrent_registrations_at_several_servers_get_consecutive_numbers(
    servers: list[RegistryService], make_adapter: AdapterMaker
) -> None:
    sources = [str(make_adapter(f"a{n}", seed=n)) for n in range(12)]
    registered = await asyncio.gather(
        *(
            servers[n % 2].registrar.register("bot", source, actor="test")
            for n, source in enumerate(sources)
        )
    )
    assert all(each.created for each in registered)
    numbers = sorted(each.published.version.number for each in registered)
    assert numbers == list(range(1, 13))
    assert (await servers[0].alias_catalog.state("bot", "default")).number == 1


async def test_the_same_content_concurrently_is_one_version(
    servers: list[RegistryService], make_adapter: AdapterMaker
) -> None:
    sources = [str(make_adapter(f"a{n}", seed=1)) for n in range(8)]
    registered = await asyncio.gather(
        *(
            servers[n % 2].registrar.register("bot", source, actor="test")
            for n, source in enumerate(sources)
        )
    )
    assert sum(each.created for each in registered) == 1
    assert {each.published.reference for each in registered} == {"bot:1"}


async def test_a_server_notices_what_another_one_changes(
    servers: list[RegistryService], make_adapter: AdapterMaker
) -> None:
    for n in range(2):
        await servers[0].registrar.register("bot", str(make_adapter(f"a{n}", seed=n)), actor="test")
    resolver = RegistryResolver(servers[0].catalog)
    assert (await resolver.resolve("bot")).number == 1
    await servers[1].aliases.point("bot", "default", {2: 1}, actor="test")
    deadline = time.monotonic() + 30
    while (await resolver.resolve("bot")).number == 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await servers[1].lifecycle.retire("bot", 2, actor="test", force=True)
    await asyncio.sleep(1.1)
    with pytest.raises(VersionUnavailable):
        await resolver.resolve("bot")


async def test_changes_that_are_committed_out_of_order_are_noticed(
    servers: list[RegistryService], make_adapter: AdapterMaker
) -> None:
    """An event with a lower id than one that was seen."""
    await servers[0].registrar.register("bot", str(make_adapter("a")), actor="test")
    database = servers[0]._database
    async with database.transaction() as session:
        session.add(Event(id=500, actor="x", kind="x", adapter_id=1))
    poller = ChangePoller(database, every_seconds=0)
    await poller.poll()
    before = database.change_count
    await poller.poll()
    assert database.change_count == before
    async with servers[1]._database.transaction() as session:
        session.add(Event(id=499, actor="x", kind="x", adapter_id=1))
    await poller.poll()
    assert database.change_count == before + 1


async def test_retiring_and_pointing_concurrently_never_leaves_an_alias_on_a_retired_version(
    servers: list[RegistryService], make_adapter: AdapterMaker
) -> None:
    await servers[0].registrar.register("bot", str(make_adapter("a")), actor="test")
    await servers[0].registrar.register("bot", str(make_adapter("b", seed=1)), actor="test")
    for _ in range(15):
        await asyncio.gather(
            servers[0].lifecycle.retire("bot", 2, actor="test"),
            servers[1].aliases.point("bot", "prod", {2: 1}, actor="test"),
            return_exceptions=True,
        )
        version = (await servers[0].catalog.version("bot", 2)).version
        aliases = {state.alias: state for state in await servers[0].alias_catalog.all("bot")}
        assert (version.state == "retired") is ("prod" not in aliases)
        if "prod" in aliases:
            await servers[0].aliases.delete("bot", "prod", actor="test")
        else:
            await servers[0].lifecycle.restore("bot", 2, actor="test")


async def test_purging_and_registering_the_same_files_concurrently_never_loses_them(
    servers: list[RegistryService], make_adapter: AdapterMaker
) -> None:
    """A version that may be served has its files, whatever else happened meanwhile."""
    source = str(make_adapter("a", seed=3))
    first = await servers[0].registrar.register("one", source, actor="test")
    path = servers[0].store.path_of(first.published.version.digest)
    await servers[0].aliases.delete("one", "default", actor="test")
    rng = random.Random(4)
    for n in range(15):
        name = f"new-{n}"

        async def purge() -> None:
            await asyncio.sleep(rng.random() * 0.01)
            await servers[0].lifecycle.retire("one", 1, actor="test")
            await servers[0].lifecycle.purge("one", 1, actor="test")

        async def register(name: str = name) -> None:
            await servers[1].registrar.register(name, source, actor="test")

        await asyncio.gather(purge(), register())
        assert path.is_dir()
        assert (await servers[1].catalog.resolve(parse_reference(name))).path == path
        await servers[1].aliases.delete(name, "default", actor="test")
        await servers[1].lifecycle.retire(name, 1, actor="test")
        await servers[1].lifecycle.purge(name, 1, actor="test")
        assert not path.exists()
        again = await servers[0].registrar.register("one", source, actor="test")
        assert again.published.version.state == "ready"
        assert path.is_dir()


async def test_any_concurrent_changes_leave_a_history_without_gaps(
    servers: list[RegistryService], make_adapter: AdapterMaker
) -> None:
    for n in range(3):
        await servers[0].registrar.register("bot", str(make_adapter(f"a{n}", seed=n)), actor="test")
    rng = random.Random(5)

    async def change(n: int) -> None:
        server, weights = servers[n % 2], {rng.randint(1, 3): 1, rng.randint(1, 3): 2}
        try:
            match n % 4:
                case 0 | 1:
                    await server.aliases.point("bot", "prod", weights, actor=f"{n}")
                case 2:
                    await server.promotion.roll_back("bot", "prod", Preparation(), actor=f"{n}")
                case 3:
                    await server.aliases.delete("bot", "prod", actor=f"{n}")
        except (AliasMoved, NothingToRollBack, UnknownAlias):
            return

    for start in range(0, 40, 8):
        await asyncio.gather(*(change(start + n) for n in range(8)))
    page = await servers[0].alias_catalog.history("bot", "prod", limit=100)
    states = list(page.items)[::-1]
    assert len(states) > 10
    assert [state.revision for state in states] == list(range(1, len(states) + 1))
    for older, newer in pairwise(states):
        assert older.valid_to is not None
        assert older.valid_from < older.valid_to <= newer.valid_from
