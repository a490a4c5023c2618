"""The first request for an adapter: what its name means and its versions are one look-up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from engine.resolver import RegistryResolver
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE
from registry.database.change_counter import ChangeCounter
from registry.errors import RegistryError, UnknownAlias, VersionUnavailable
from registry.names.batch_reader import MAX_TOGETHER
from registry.service import RegistryService
from tests.api.helpers import AdapterMaker, publish_some, step

pytestmark = pytest.mark.both_databases


class Sessions:
    """Those that the catalog opens, in place of its database. What comes `meanwhile` is done at
    the end of the next."""

    def __init__(self, service: RegistryService, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = 0
        self.meanwhile: list[httpx.Request] = []
        self.client: httpx.AsyncClient | None = None
        self._database = service._database
        monkeypatch.setattr(service.catalog, "_database", self)
        monkeypatch.setattr(service.catalog, "poll_changes", self.poll_changes)

    @property
    def changes(self) -> ChangeCounter:
        return self._database.changes

    async def poll_changes(self) -> None:
        """No other server changes anything."""

    @asynccontextmanager
    async def read_session(self) -> AsyncIterator[AsyncSession]:
        self.opened += 1
        async with self._database.read_session() as session:
            yield session
        while self.meanwhile and self.client is not None:
            assert (await self.client.send(self.meanwhile.pop())).status_code == 200


@pytest.mark.parametrize("text", ["bot", "bot@default", "bot:2", "Org/Bot"])
async def test_it_is_read_in_one_session_and_the_next_in_none(
    client: httpx.AsyncClient,
    service: RegistryService,
    make_adapter: AdapterMaker,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await client.put("/adapters/bot/aliases/default", json={"version": 2})
    named = await client.put("/adapters/bot/names", json={"name": "Org/Bot"})
    assert named.status_code in (200, 201), named.text
    resolver, sessions = RegistryResolver(service.catalog), Sessions(service, monkeypatch)
    assert (await resolver.resolve(text)).reference == "bot:2"
    assert sessions.opened == 1
    assert (await resolver.resolve(text)).reference == "bot:2"
    assert sessions.opened == 1


async def test_of_many_at_once_each_reads_its_own_versions(
    client: httpx.AsyncClient,
    service: RegistryService,
    make_adapter: AdapterMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or whoever comes next would wait for the versions of all."""
    await publish_some(client, make_adapter, "bot", 1)
    texts = [f"bot:{n}" for n in range(1, MAX_TOGETHER + 3)]
    resolver, sessions = RegistryResolver(service.catalog), Sessions(service, monkeypatch)
    found = await asyncio.gather(*map(resolver.resolve, texts), return_exceptions=True)
    assert [isinstance(each, RegistryError) for each in found] == [False] + [True] * (
        MAX_TOGETHER + 1
    )
    assert sessions.opened == 1 + len(texts)


async def test_refusals_are_those_of_the_versions_and_are_not_kept(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await step(client, "bot:2", "retire")
    resolver = RegistryResolver(service.catalog)
    for text, error in (("bot:2", VersionUnavailable), ("bot@prod", UnknownAlias)):
        for _ in range(2):
            with pytest.raises(error):
                await resolver.resolve(text)
    await step(client, "bot:2", "restore")
    assert (await resolver.resolve("bot:2")).number == 2


async def test_a_change_just_after_the_look_up_is_seen(
    client: httpx.AsyncClient,
    service: RegistryService,
    make_adapter: AdapterMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    resolver, sessions = RegistryResolver(service.catalog), Sessions(service, monkeypatch)
    sessions.client = client
    moved = client.build_request("PUT", "/adapters/bot/aliases/default", json={"version": 2})
    sessions.meanwhile.append(moved)
    assert (await resolver.resolve("bot")).number == 2
    assert (await resolver.resolve("bot")).number == 2


async def test_callers_who_ask_together_get_what_each_may_see(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    await client.put("/adapters/bot/names", json={"name": "Org/Bot"})
    resolver = RegistryResolver(service.catalog)

    async def ask(granted: frozenset[str]) -> str:
        with as_caller(Caller("acme~app", EVERY_SCOPE, granted)):
            try:
                return (await resolver.resolve("Org/Bot")).reference
            except RegistryError as error:
                return error.code

    found = await asyncio.gather(ask(frozenset()), ask(frozenset({"bot"})), ask(frozenset()))
    assert list(found) == ["invalid_reference", "bot:1", "invalid_reference"]
