"""Who removes files and who brings the same ones: each of them waits for the other's row."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from registry.catalog.types import Origin
from registry.ingest.cleanup import Cleanup
from registry.ingest.pipeline import inspect, keep, new_workspace
from registry.lifecycle.garbage_collector import ORPHANS_AFTER_SECONDS
from registry.service import RegistryService
from registry.sources.base import Progress
from registry.storage.store import StoredArtifact
from tests.api.helpers import AdapterMaker, kinds, publish_some, step

pytestmark = pytest.mark.both_databases


@asynccontextmanager
async def arriving(service: RegistryService, source: Path) -> AsyncIterator[StoredArtifact]:
    """A registration that has its files in the store, and writes its row in the block."""
    store = service.store
    async with new_workspace(store) as workspace:
        folder = workspace.empty_folder()
        local = await store.local(str(source))
        fetched = await local.fetch(folder, store.limits, Progress())
        inspection = await inspect(folder, service.registrar.inspect)
        async with keep(store, folder, fetched, inspection) as artifact:
            yield artifact


async def sweep(service: RegistryService) -> None:
    retention = timedelta(days=1)
    await Cleanup(service.store, service._database, retention=retention).run()


def make_old(artifact: StoredArtifact) -> None:
    """As after a download that took hours."""
    long_ago = time.time() - ORPHANS_AFTER_SECONDS - 60
    os.utime(artifact.path, (long_ago, long_ago))


async def orphans(client: httpx.AsyncClient) -> list[str]:
    response = await client.post("/gc", json={"dry_run": False})
    assert response.status_code == 200, response.text
    found: list[str] = response.json()["orphans"]
    return found


async def test_files_whose_row_is_being_written_are_no_garbage(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    async with arriving(service, make_adapter("a")) as artifact:
        make_old(artifact)
        assert await orphans(client) == []
        await sweep(service)
        assert artifact.path.is_dir()
        await service.registrar.publish("bot", Origin("a", None, "test"), artifact)
    assert await orphans(client) == []
    await sweep(service)
    assert artifact.path.is_dir()
    assert not service.store.pending_digests()


async def test_files_whose_row_was_never_written_are_swept(
    service: RegistryService, make_adapter: AdapterMaker
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with arriving(service, make_adapter("a")) as artifact:
            raise ZeroDivisionError
    assert artifact.path.is_dir()
    await sweep(service)
    assert not artifact.path.exists()


async def test_a_purge_leaves_files_to_a_registration_that_is_about_to_need_them(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await step(client, "bot:2", "retire")
    async with arriving(service, make_adapter("again", seed=1)) as artifact:
        purge = await step(client, "bot:2", "purge")
        assert purge.json()["freed_bytes"] == 0
        assert purge.json()["pending_bytes"] == purge.json()["version"]["size_bytes"]
        assert artifact.path.is_dir()
        done = await service.registrar.publish("bot", Origin("again", None, "test"), artifact)
    assert (done.created, done.published.version.state) == (False, "ready")
    assert (await kinds(client, "bot"))[-2:] == ["version.purged", "version.restored"]
    await sweep(service)
    assert artifact.path.is_dir()


async def test_what_a_purge_left_to_a_registration_that_fails_is_swept(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await step(client, "bot:2", "retire")
    digest = (await client.get("/adapters/bot/versions/2")).json()["digest"]

    async def fail() -> None:
        async with arriving(service, make_adapter("again", seed=1)):
            await step(client, "bot:2", "purge")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await sweep(service)
    assert not service.store.path_of(digest).exists()
    assert (await client.get("/adapters/bot/versions/2")).json()["state"] == "purged"


async def test_what_the_cleanup_checks_may_be_purged_immediately(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "other", 2)
    digest = (await client.get("/adapters/other/versions/2")).json()["digest"]
    service.store._pending.lock_shared(digest).abandon()  # a server died right after its commit
    await step(client, "other:2", "retire")
    await sweep(service)
    assert (await step(client, "other:2", "purge")).json()["freed_bytes"] > 0
    assert not service.store.path_of(digest).exists()
