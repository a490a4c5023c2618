"""Imports beside a store that hangs or fails, of very many numbers, and of too many aliases."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from registry.api.router import create_router
from registry.database.engine import Database
from registry.models import FurtherNumber
from registry.service import RegistryService
from registry.sources.disks.store_threads import STEPS
from registry.storage.store import ArtifactStore
from registry.transfer import repository
from registry.transfer.repository import TransferRepository
from tests.api.conftest import BASE, AdapterMaker
from tests.api.helpers import publish_some
from tests.support.archives import archive_of, changed_json, parts_of, sealed
from tests.support.servers.asgi_server import take_in

COPY = "adapters/copy.json"


@pytest.fixture
async def archive(client: httpx.AsyncClient, make_adapter: AdapterMaker) -> bytes:
    """Three versions, as those of the adapter `copy`."""
    await publish_some(client, make_adapter, "bot", 3)
    parts = parts_of((await client.get("/export", params={"adapter": "bot"})).content)
    parts[COPY] = changed_json(parts.pop("adapters/bot.json"), lambda m: m.update(name="copy"))
    return archive_of(sealed({**parts, "events.jsonl": b""}))


@asynccontextmanager
async def empty(tmp_path: Path, database: Database, **options: Any) -> AsyncIterator[Any]:
    """A registry on the same database whose store is empty."""
    store = ArtifactStore(tmp_path / "empty", source_roots=[], max_bytes=1_000_000)
    store.open()
    app = FastAPI()
    take_in(app, create_router(RegistryService(database, store, BASE, max_rank=16, **options)))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x/api/v1") as client:
        yield client


class HungStore:
    """Looks at what the store has wait until it answers."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.is_asked = threading.Event()
        self._has = ArtifactStore.has

    def has(self, store: ArtifactStore, digest: str) -> bool:
        self.is_asked.set()
        assert self.answers.wait(60)
        return self._has(store, digest)


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[HungStore]:
    subject = HungStore()

    def has(store: ArtifactStore, digest: str) -> bool:
        return subject.has(store, digest)

    monkeypatch.setattr(ArtifactStore, "has", has)
    yield subject
    subject.answers.set()


async def test_a_store_that_hangs_while_an_import_is_written_holds_up_no_request(
    client: httpx.AsyncClient, archive: bytes, hung: HungStore
) -> None:
    importing = asyncio.create_task(client.post("/import", content=archive))
    assert await asyncio.to_thread(hung.is_asked.wait, 20)
    async with asyncio.timeout(20):
        assert (await client.get("/adapters")).status_code == 200
    assert not importing.done()
    hung.answers.set()
    assert (await importing).json()["versions_added"] == 3


async def test_an_import_does_not_wait_for_a_store_that_hangs(
    client: httpx.AsyncClient, archive: bytes, hung: HungStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which it holds no lock of the database for."""
    monkeypatch.setattr(STEPS, "seconds", 2.0)
    refused = await client.post("/import", content=archive)
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert [each["name"] for each in (await client.get("/adapters")).json()["items"]] == ["bot"]
    hung.answers.set()
    assert (await client.post("/import", content=archive)).status_code == 200


@contextmanager
def counting(database: Database, words: str) -> Iterator[list[object]]:
    """What statements that hold these words ask for."""
    seen: list[object] = []

    def note(
        _: object, cursor: object, statement: str, asked: Sequence[object], *more: object
    ) -> None:
        if words in statement:
            seen.extend(asked)

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def test_further_numbers_are_read_once_for_each_adapter(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With each page of adapters, those of all pages before it were read again."""
    names = [f"bot-{n}" for n in range(5)]
    for seed, name in enumerate(names):
        source = {"source": str(make_adapter(name, seed=seed))}
        assert (await client.post(f"/adapters/{name}/versions", json=source)).is_success
    async with database.transaction() as session:
        session.add_all(
            FurtherNumber(adapter_id=id_, number=number, version_id=id_)
            for id_ in range(1, 6)
            for number in range(10, 20)
        )
    monkeypatch.setattr(repository, "_PAGE", 1)
    async with database.read_session() as session:
        with counting(database, "FROM further_number") as read:
            found = await TransferRepository(session).local(names)
    assert sorted(map(str, read)) == ["1", "2", "3", "4", "5"], "each version once"
    assert {name: sorted(found[name].further.items()) for name in names} == {
        name: [(number, 1) for number in range(10, 20)] for name in names
    }


async def test_an_import_adds_no_more_aliases_than_an_adapter_may_have(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, tmp_path: Path, database: Database
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    for n in range(4):
        path = f"/adapters/bot/aliases/a{n}"
        assert (await client.put(path, json={"version": 1})).is_success
    archive = (await client.get("/export")).content
    async with empty(tmp_path, database, max_aliases=4) as strict:
        known = await strict.post("/import", content=archive)
        assert known.status_code == 200, "those that are here stay"
        parts = parts_of(archive)
        parts[COPY] = changed_json(parts.pop("adapters/bot.json"), lambda m: m.update(name="copy"))
        more = archive_of(sealed({**parts, "events.jsonl": b""}))
        for dry_run in ("true", "false"):
            refused = await strict.post("/import", content=more, params={"dry_run": dry_run})
            assert (refused.status_code, refused.json()["code"]) == (409, "too_many_aliases")
    async with empty(tmp_path, database, max_aliases=5) as enough:
        assert (await enough.post("/import", content=more)).status_code == 200
