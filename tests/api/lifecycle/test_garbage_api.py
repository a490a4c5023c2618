"""Garbage collection over REST: a dry run says exactly what a real one does, and what it keeps."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col

from registry.lifecycle.garbage_collector import (
    ORPHANS_AFTER_SECONDS,
    GarbageCollector,
    Retention,
)
from registry.lifecycle.garbage_repository import Candidate
from registry.models import AliasHistory, Version, now
from registry.references import parse_reference
from registry.service import RegistryService
from tests.api.helpers import AdapterMaker, assert_problem, kinds, publish, publish_some, step

pytestmark = pytest.mark.both_databases

_HOUR = timedelta(hours=1)
NO_WINDOW = {"rollback_window_days": 0}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store" / "adapters"


async def collect(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/gc", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def references(collection: dict[str, Any]) -> list[str]:
    return [item["reference"] for item in collection["purged"]]


async def states(client: httpx.AsyncClient, name: str) -> list[str]:
    items = (await client.get(f"/adapters/{name}/versions")).json()["items"]
    return [item["state"] for item in items]


async def test_by_default_nothing_is_deleted(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, store: Path
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    for n in (2, 3):
        await step(client, f"bot:{n}", "retire")
    files = sorted(store.glob("??/*"))
    dry = await collect(client, keep_last=0, **NO_WINDOW)
    assert dry["dry_run"] is True
    assert references(dry) == ["bot:2", "bot:3"]
    assert await states(client, "bot") == ["ready", "retired", "retired"]
    assert sorted(store.glob("??/*")) == files
    assert (await client.post("/gc")).json()["kept"] == {"last": 2}


async def test_a_real_run_does_what_the_dry_run_said(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, store: Path
) -> None:
    await publish_some(client, make_adapter, "bot", 4)
    await publish(client, "twin", make_adapter("twin", seed=1))
    for n in (2, 3, 4):
        await step(client, f"bot:{n}", "retire")
    rules = {"keep_last": 1, **NO_WINDOW}
    dry = await collect(client, **rules)
    real = await collect(client, dry_run=False, **rules)
    assert {**real, "dry_run": True} == dry
    assert references(real) == ["bot:2", "bot:3"]
    assert real["kept"] == {"last": 1}
    assert await states(client, "bot") == ["ready", "purged", "purged", "retired"]
    only_of_3 = (await client.get("/adapters/bot/versions/3")).json()
    assert real["freed_bytes"] == only_of_3["size_bytes"], "the files of bot:2 are twin:1's too"
    assert len(list(store.glob("??/*"))) == 3
    assert (await client.get("/resolve", params={"reference": "twin"})).status_code == 200
    assert await kinds(client, "bot")
    again = await collect(client, dry_run=False, **rules)
    assert (references(again), again["freed_bytes"]) == ([], 0)


async def test_a_purged_version_is_none_of_the_last(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 4)
    for number in (2, 3, 4):
        await step(client, f"bot:{number}", "retire")
    await step(client, "bot:4", "purge")
    found = await collect(client, keep_last=1, **NO_WINDOW)
    assert references(found) == ["bot:2"]
    assert found["kept"] == {"last": 1}


async def test_an_aliased_version_is_kept_whatever_its_state(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    weights = [{"version": 2, "weight": 1}, {"version": 3, "weight": 9}]
    await client.put("/adapters/bot/aliases/prod", json={"weights": weights})
    for n in (1, 2, 3):
        await step(client, f"bot:{n}", "retire", force=True)
    found = await collect(client, dry_run=False, keep_last=0, **NO_WINDOW)
    assert references(found) == []
    assert found["kept"] == {"aliased": 3}


async def test_what_a_rollback_may_go_to_is_kept(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 4)
    await client.put("/adapters/bot/aliases/default", json={"version": 2})
    await client.put("/adapters/bot/aliases/default", json={"version": 3})
    every = ["ready", "deprecated", "retired", "rejected", "quarantined"]
    rules = {"keep_last": 0, "states": every}
    within = await collect(client, rollback_window_days=1, **rules)
    assert (references(within), within["kept"]) == ([], {"aliased": 1, "rollback_window": 3})
    without = await collect(client, dry_run=False, rollback_window_days=0, **rules)
    assert references(without) == ["bot:1", "bot:2", "bot:4"]
    assert await states(client, "bot") == ["purged", "purged", "ready", "purged"]
    assert (await kinds(client, "bot"))[-2:] == ["version.retired", "version.purged"]


async def test_the_window_counts_from_the_end_of_a_state_of_an_alias(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    """Old versions, of which one was the default until now and one until long ago."""
    await publish_some(client, make_adapter, "bot", 4)
    for n in (2, 3, 4):
        await client.put("/adapters/bot/aliases/default", json={"version": n})
    long_ago = now() - timedelta(days=10)
    async with service._database.transaction() as session:
        await session.execute(update(Version).values(created_at=long_ago))
        of_first = update(AliasHistory).where(col(AliasHistory.revision) == 1)
        await session.execute(of_first.values(valid_from=long_ago, valid_to=long_ago + _HOUR))
        of_second = update(AliasHistory).where(col(AliasHistory.revision) == 2)
        await session.execute(of_second.values(valid_from=long_ago + _HOUR))
    found = await collect(client, keep_last=0, rollback_window_days=1, states=["ready"])
    assert references(found) == ["bot:1"]
    assert found["kept"] == {"aliased": 1, "rollback_window": 2}


async def test_what_is_in_use_is_refused_and_the_rest_goes(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 3)
    used = (await service.catalog.resolve(parse_reference("bot:2"))).version_id
    for n in (2, 3):
        await step(client, f"bot:{n}", "retire")

    async def is_used(version_id: int) -> bool:
        return version_id == used

    service.set_usage_check(is_used)
    found = await collect(client, dry_run=False, keep_last=0, **NO_WINDOW)
    assert references(found) == ["bot:3"]
    assert found["refused"] == {"bot:2": "version_in_use"}


async def test_a_run_has_a_limit_and_says_that_there_is_more(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 4)
    await publish_some(client, make_adapter, "cat", 3)
    for reference in ("bot:2", "bot:3", "bot:4", "cat:2"):
        await step(client, reference, "retire")
    await step(client, "cat:3", "deprecate")
    rules = {"keep_last": 0, "dry_run": False, **NO_WINDOW}
    one = await collect(client, adapter="cat", **rules)
    assert (references(one), one["more"]) == (["cat:2"], False)
    first = await collect(client, limit=2, **rules)
    assert (references(first), first["more"]) == (["bot:2", "bot:3"], True)
    second = await collect(client, limit=2, **rules)
    assert (references(second), second["more"]) == (["bot:4"], False)
    third = await collect(client, states=["deprecated"], **rules)
    assert (references(third), third["refused"]) == (["cat:3"], {})


async def test_what_is_no_adapters_folder_is_no_garbage(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, store: Path
) -> None:
    """A dry run listed it, and a run left it; what another server removes meanwhile was a 503."""
    await publish_some(client, make_adapter, "bot", 1)
    long_ago = time.time() - ORPHANS_AFTER_SECONDS - 1
    for name in ("ff/lost+found", "ee/.nfs0001", "ee/backup"):
        folder = store / name
        folder.mkdir(parents=True)
        os.utime(folder, (long_ago, long_ago))
    (store / "ee" / ("e" * 64)).symlink_to("gone")
    for dry_run in (True, False):
        assert (await collect(client, dry_run=dry_run))["orphans"] == []
    assert (store / "ee" / "backup").is_dir()


async def test_files_without_a_row_go_when_they_are_old(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, store: Path
) -> None:
    await publish_some(client, make_adapter, "bot", 1)
    old, new = "e" * 64, "f" * 64
    for digest in (old, new):
        (store / digest[:2] / digest).mkdir(parents=True)
    long_ago = time.time() - ORPHANS_AFTER_SECONDS - 1
    for folder in store.glob("??/*"):
        if folder.name != new:
            os.utime(folder, (long_ago, long_ago))
    assert (await collect(client, adapter="bot"))["orphans"] == []
    assert (await collect(client))["orphans"] == [old]
    assert (await collect(client, dry_run=False))["orphans"] == [old]
    left = {folder.name for folder in store.glob("??/*")}
    assert old not in left
    assert new in left
    assert len(left) == 2
    assert (await collect(client))["orphans"] == []


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    "body",
    [
        {"states": []},
        {"states": ["happy"]},
        {"keep_last": -1},
        {"rollback_window_days": -1},
        {"rollback_window_days": "x"},
        {"limit": 0},
        {"limit": 1001},
        {"adapter": ""},
        {"dryrun": True},
    ],
)
async def test_rules_that_make_no_sense(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert_problem(await client.post("/gc", json=body), 422, "invalid_request")


class Overtaken(GarbageCollector):
    """Whose candidates another server purges before it has asked what that frees."""

    async def _find(
        self, retention: Retention, limit: int
    ) -> tuple[list[Candidate], dict[str, int]]:
        found, kept = await super()._find(retention, limit)
        for each in found:
            await self._lifecycle.purge(each.adapter, each.number, actor="another")
        return found, kept


async def test_a_dry_run_that_is_overtaken_says_that_nothing_is_freed(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    await publish_some(client, make_adapter, "bot", 2)
    await step(client, "bot:2", "retire")
    collector = Overtaken(
        service._database, service.store, service.garbage._removal, service.lifecycle
    )
    rules = Retention(keep_last=0, rollback_window=timedelta(0))
    found = await collector.collect(rules, actor="tests", limit=10, dry_run=True)
    assert ([each.reference for each in found.purged], found.freed_bytes) == (["bot:2"], 0)
