"""Transfer between registries: complete, atomic and idempotent."""

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from registry.api.router import create_router
from registry.database.engine import Database
from registry.models import Adapter
from registry.notifications import open_notifications
from registry.service import RegistryService
from registry.storage.store import ArtifactStore
from registry.tenants.service import TenantService
from registry.transfer import unpack
from tests.api.conftest import BASE
from tests.support.archives import INDEX, archive_of, changed_json, parts_of, sealed
from tests.support.read_settings import read_settings
from tests.support.servers.asgi_server import take_in
from tests.support.servers.ingest_router import ingest_router

pytestmark = pytest.mark.both_databases

AdapterMaker = Callable[..., Path]
Json = dict[str, Any]
SPLIT = [{"version": 1, "weight": 1}, {"version": 2, "weight": 9}]
UNCHANGED = {
    "adapters_added": 0,
    "versions_added": 0,
    "aliases_set": 0,
    "events_added": 0,
    "skipped": {},
}


class Registry:
    """One registry with its own database and store."""

    def __init__(self, client: httpx.AsyncClient, store: Path, database: Database) -> None:
        self.client = client
        self.store = store
        self.tenants = TenantService(database)

    async def get(self, path: str, **query: Any) -> Any:
        response = await self.client.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def ok(self, method: str, path: str, body: Json | None = None) -> Json:
        response = await self.client.request(method, path, json=body)
        assert response.is_success, response.text
        content: Json = response.json()
        return content

    async def publish(self, name: str, source: Path, **details: Any) -> Json:
        body = {"source": str(source), **details}
        return await self.ok("POST", f"/adapters/{name}/versions", body)

    async def export(self, *adapters: str) -> bytes:
        response = await self.client.get("/export", params={"adapter": adapters})
        assert response.status_code == 200, response.text
        return response.content

    async def import_(self, archive: bytes, **options: Any) -> httpx.Response:
        return await self.client.post("/import", content=archive, params=options)

    async def imported(self, archive: bytes, **options: Any) -> Json:
        response = await self.import_(archive, **options)
        assert response.status_code == 200, response.text
        report: Json = response.json()
        return report

    async def refused(self, archive: bytes, status: int, code: str, **options: Any) -> str:
        """The detail. Proves that nothing has changed by it."""
        before = await self.everything()
        response = await self.import_(archive, **options)
        assert (response.status_code, response.json()["code"]) == (status, code), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert await self.everything() == before
        return str(response.json()["detail"])

    async def everything(self) -> Json:
        """All that can be seen of it, but for ids and what is only true here."""
        found: Json = {"files": sorted(str(p.relative_to(self.store)) for p in self._files())}
        for adapter in (await self.get("/adapters", limit=500))["items"]:
            name = adapter["name"]
            path = f"/adapters/{name}"
            aliases = (await self.get(f"{path}/aliases"))["items"]
            found[name] = {
                "adapter": adapter,
                "versions": (await self.get(f"{path}/versions"))["items"],
                "aliases": aliases,
                "history": [
                    await self.get(f"{path}/aliases/{alias['alias']}/history") for alias in aliases
                ],
            }
        return found

    async def lines(self) -> list[Json]:
        """The table of all adapters, with the version that each alias mostly means."""
        items: list[Json] = (await self.get("/overview"))["items"]
        return [{key: item[key] for key in ("name", "aliases")} for item in items]

    def _files(self) -> list[Path]:
        files = [path for path in self.store.rglob("*") if path.is_file()]
        return [file for file in files if file.parent.name not in ("seals", "spare")]

    async def events(self, name: str) -> list[Json]:
        """As they are shown, except for what is only true here."""
        events = (await self.get(f"/adapters/{name}/events", limit=500))["items"]
        return [{k: v for k, v in e.items() if k not in ("id", "imported")} for e in events]


@pytest.fixture
def here(
    client: httpx.AsyncClient, tmp_path: Path, service: RegistryService, database: Database
) -> Registry:
    return Registry(client, tmp_path / "store", database)


@pytest.fixture
async def there(tmp_path: Path, other_database_url: str) -> AsyncIterator[Registry]:
    """An empty registry on another database of the same kind."""
    database = Database(other_database_url)
    store = ArtifactStore(tmp_path / "other", source_roots=[tmp_path], max_bytes=1_000_000)
    store.open()
    service = RegistryService(database, store, BASE, max_rank=8, reserved_names=frozenset({"base"}))
    async with open_notifications(database, read_settings()) as parts:
        app = FastAPI()
        take_in(app, create_router(service), ingest_router(service), *parts.routers)
        transport = httpx.ASGITransport(app=app)
        url = "http://there/api/v1"
        async with httpx.AsyncClient(transport=transport, base_url=url) as client:
            yield Registry(client, tmp_path / "other", database)
    await database.close()


@pytest.fixture
async def full(here: Registry, make_adapter: AdapterMaker) -> Registry:
    """With two adapters, shared files, every state, a moved, a split and a deleted alias."""
    sources = [make_adapter(f"a{n}", seed=n) for n in range(6)]
    details = {"description": "first", "tags": ["b", "a"], "metadata": {"loss": 0.5, "x": [1]}}
    await here.publish("bot", sources[0], **details, training_run="run 1", dataset="d")
    await here.publish("bot", sources[1], parent="bot:1")
    await here.publish("other", sources[0], parent="bot:2")
    for source in sources[2:]:
        await here.publish("bot", source)
    await here.ok("PATCH", "/adapters/bot", {"owner": "team", "tags": ["t"], "metadata": {"k": 1}})
    await here.ok("PUT", "/adapters/bot/aliases/prod", {"version": 1, "reason": "go"})
    await here.ok("PUT", "/adapters/bot/aliases/prod", {"weights": SPLIT})
    await here.ok("PUT", "/adapters/bot/aliases/old", {"version": 1})
    assert (await here.client.delete("/adapters/bot/aliases/old")).is_success
    await here.ok("POST", "/adapters/bot/versions/2/deprecate", {"reason": "old"})
    await here.ok("POST", "/adapters/bot/versions/3/retire", {"reason": "older"})
    await here.ok("POST", "/adapters/bot/versions/4/quarantine", {"reason": "bad", "code": "bad"})
    await here.ok("POST", "/adapters/bot/versions/5/retire", {})
    await here.ok("POST", "/adapters/bot/versions/5/purge", {})
    return here


async def test_everything_is_transferred(full: Registry, there: Registry) -> None:
    report = await there.imported(await full.export())
    assert report == {
        "dry_run": False,
        "adapters_added": 2,
        "versions_added": 7,
        "versions_unchanged": 0,
        "further_numbers": {},
        "aliases_set": 4,
        "aliases_kept": [],
        "events_added": len(await full.events("bot")) + len(await full.events("other")),
        "orphans": [],
        "skipped": {},
        "remarks": {},
    }
    assert await there.everything() == await full.everything()
    assert await there.lines() == await full.lines()
    for name in ("bot", "other"):
        *recorded, imported = await there.events(name)
        assert recorded == await full.events(name)
        assert (imported["kind"], imported["actor"]) == ("adapter.imported", "api")
    events = (await there.get("/events", limit=500))["items"]
    assert [e["imported"] for e in events] == [True] * report["events_added"] + [False] * 2
    assert events[-2]["data"] == {
        "versions": [1, 2, 3, 4, 5, 6],
        "aliases": ["default", "old", "prod"],
    }


async def test_the_history_of_an_alias_is_transferred(full: Registry, there: Registry) -> None:
    history = (await full.get("/adapters/bot/aliases/prod/history"))["items"]
    then = history[-1]["valid_from"]
    await there.imported(await full.export())
    answer = await there.get("/adapters/bot/aliases/prod", at=then)
    assert answer["version"] == 1
    back = await there.ok("POST", "/adapters/bot/aliases/prod/rollback", {})
    assert (back["version"], back["revision"]) == (1, history[0]["revision"] + 1)


async def test_an_export_is_byte_identical_each_time_and_after_an_import(
    full: Registry, there: Registry
) -> None:
    archive = await full.export()
    assert await full.export() == archive
    await there.imported(archive)
    before, after = parts_of(archive), parts_of(await there.export())
    same = set(before) - {INDEX, "events.jsonl"}
    assert list(before) == list(after)
    assert {name: before[name] for name in same} == {name: after[name] for name in same}
    assert after["events.jsonl"].startswith(before["events.jsonl"])


async def test_a_version_of_another_base_model_stays_bound_to_it(
    full: Registry, there: Registry
) -> None:
    """It fits this server's in shape, which would answer with it, and wrongly."""
    other = {"name": "instruct", "digest": "b" * 64}
    parts = parts_of(await full.export())
    await there.imported(
        archive_of(_manifest(parts, lambda m: m["versions"][0].update(base=other)))
    )
    versions = (await there.get("/adapters/bot/versions"))["items"]
    bases = {version["number"]: version["base"] for version in versions}
    assert (bases[1], bases[2]) == ("instruct", BASE.identity.name)
    refused = await there.client.get("/resolve", params={"reference": "bot:1"})
    assert (refused.status_code, refused.json()["code"]) == (409, "other_base_model")
    assert (await there.get("/resolve", reference="bot:2"))["number"] == 2


async def test_repeating_an_import_changes_nothing(full: Registry, there: Registry) -> None:
    archive = await full.export()
    await there.imported(archive)
    before = await there.everything(), await there.events("bot")
    again = await there.imported(archive)
    assert again.items() >= UNCHANGED.items()
    assert again["versions_unchanged"] == 7
    assert (await there.everything(), await there.events("bot")) == before
    own = await full.imported(archive)
    assert own.items() >= UNCHANGED.items(), "nor does it where it came from"


async def test_served_names_are_transferred_and_known_ones_stay(
    full: Registry, there: Registry
) -> None:
    path = "/adapters/other/names"
    await full.ok("PUT", path, {"name": "Org/Other"})
    await full.ok("PUT", path, {"name": "größe", "version": 1})
    archive = await full.export()
    await there.imported(archive)
    expected = [("Org/Other", "other"), ("größe", "other:1")]
    assert [(n["name"], n["reference"]) for n in (await there.get(path))["items"]] == expected
    await there.ok("PUT", path, {"name": "größe"})
    gone = {"served_name": "Org/Other"}
    assert (await there.client.delete(path, params=gone)).is_success
    await there.imported(archive)
    expected[1] = ("größe", "other")
    assert [(n["name"], n["reference"]) for n in (await there.get(path))["items"]] == expected


async def test_a_served_name_that_another_adapter_has_is_a_conflict(
    full: Registry, there: Registry, make_adapter: AdapterMaker
) -> None:
    await full.ok("PUT", "/adapters/other/names", {"name": "Org/Other"})
    archive = await full.export()
    await there.publish("mine", make_adapter("mine", seed=50))
    await there.ok("PUT", "/adapters/mine/names", {"name": "Org/Other"})
    for dry_run in ("true", "false"):
        await there.refused(archive, 409, "name_taken", dry_run=dry_run)
    gone = {"served_name": "Org/Other"}
    assert (await there.client.delete("/adapters/mine/names", params=gone)).is_success
    await there.ok("PUT", "/adapters/mine/names", {"name": "other"})
    for dry_run in ("true", "false"):
        assert "other" in await there.refused(archive, 409, "name_taken", dry_run=dry_run)


def _rename(names: list[dict[str, Any]], manifest: dict[str, Any]) -> None:
    manifest["names"] = names


async def test_a_dry_run_refuses_the_names_that_an_import_would_refuse(
    full: Registry, there: Registry
) -> None:
    await full.ok("PUT", "/adapters/other/names", {"name": "Org/Other"})
    parts = parts_of(await full.export("other"))
    place = "adapters/other.json"
    cases = {
        "name_reserved": [{"name": "base"}],
        "invalid_served_name": [{"name": "a\nb"}],
        "too_many_names": [{"name": f"name {n}"} for n in range(33)],
        "name_taken": [{"name": "other"}],
    }
    for code, names in cases.items():
        manifest = changed_json(parts[place], partial(_rename, names))
        archive = archive_of(sealed({**parts, place: manifest}))
        answers = [
            await there.client.post("/import", content=archive, params={"dry_run": dry_run})
            for dry_run in ("true", "false")
        ]
        said = [(answer.status_code, answer.json()["code"]) for answer in answers]
        assert said[0] == said[1], said
        assert said[0][1] == code or code == "invalid_served_name", said
    manifest = changed_json(parts[place], lambda m: m.update(names=[{"name": "x", "version": 9}]))
    archive = archive_of(sealed({**parts, place: manifest}))
    await there.imported(archive, dry_run=True)
    await there.imported(archive)


async def test_later_changes_are_transferred(
    full: Registry, there: Registry, make_adapter: AdapterMaker
) -> None:
    await there.imported(await full.export())
    await full.publish("bot", make_adapter("new", seed=50))
    await full.publish("third", make_adapter("third", seed=51))
    await full.ok("PUT", "/adapters/bot/aliases/new", {"version": 7})
    report = await there.imported(await full.export())
    assert (report["adapters_added"], report["versions_added"], report["aliases_set"]) == (1, 2, 2)
    assert await there.everything() == await full.everything()


async def test_others_are_answered_while_manifests_are_written(
    here: Registry, database: Database
) -> None:
    """They were written in the event loop: 10,000 versions held all others up for two seconds."""
    async with database.transaction() as session:
        session.add_all(Adapter(name=f"a{n}") for n in range(100))
    seen: set[int] = set()

    async def count() -> None:
        while True:
            names = (name for _, _, names in os.walk(here.store) for name in names)
            seen.add(sum(name.endswith(".json") for name in names))
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await here.export()
    counting.cancel()
    assert seen - {0, 100}


async def test_some_adapters_may_be_chosen(full: Registry, there: Registry) -> None:
    archive = await full.export("other")
    assert list(parts_of(archive))[:3] == [INDEX, "adapters/other.json", "events.jsonl"]
    report = await there.imported(archive)
    assert report["orphans"] == ["other:1"], "its parent stayed behind"
    assert await there.get("/adapters/other/versions/1") == {
        **await full.get("/adapters/other/versions/1"),
        "parent": None,
    }
    for query, status, code in [
        ({"adapter": "nobody"}, 404, "unknown_adapter"),
        ({"adapter": "No/Way"}, 400, "invalid_reference"),
    ]:
        response = await full.client.get("/export", params=query)
        assert (response.status_code, response.json()["code"]) == (status, code)


async def test_aliases_that_were_moved_here_stay_unless_replaced(
    full: Registry, there: Registry
) -> None:
    archive = await full.export()
    await there.imported(archive)
    await there.ok("PUT", "/adapters/bot/aliases/prod", {"version": 6})
    assert (await there.client.delete("/adapters/other/aliases/default")).is_success
    report = await there.imported(archive)
    assert report["aliases_kept"] == ["bot@prod", "other@default"]
    assert (await there.get("/adapters/bot/aliases/prod"))["version"] == 6
    report = await there.imported(archive, aliases="replace")
    assert (report["aliases_set"], report["aliases_kept"]) == (2, [])
    assert (await there.get("/adapters/bot/aliases/prod"))["weights"] == (
        await full.get("/adapters/bot/aliases/prod")
    )["weights"]
    assert (await there.get("/adapters/other/aliases/default"))["version"] == 1
    recorded = [(e["kind"], e["reason"]) for e in (await there.events("bot"))[-2:]]
    assert recorded == [("alias.split", "imported"), ("adapter.imported", None)]


async def test_a_dry_run_reports_changes_and_makes_none(full: Registry, there: Registry) -> None:
    archive = await full.export()
    before = await there.everything()
    dry = await there.imported(archive, dry_run=True)
    assert await there.everything() == before
    real = await there.imported(archive)
    assert {**dry, "dry_run": False, "events_added": real["events_added"]} == real


async def test_a_failure_at_the_end_removes_the_files(
    full: Registry, there: Registry, make_adapter: AdapterMaker
) -> None:
    await there.imported(await full.export())
    await there.ok("PUT", "/adapters/bot/aliases/prod", {"version": 6})
    await full.publish("bot", make_adapter("new", seed=50))
    await full.ok("PUT", "/adapters/bot/aliases/prod", {"version": 7})
    await full.ok("POST", "/adapters/bot/versions/7/retire", {"force": True})
    archive = await full.export()  # its `prod` points at what may not be pointed at
    for dry_run in ("true", "false"):
        options = {"aliases": "replace", "dry_run": dry_run}
        await there.refused(archive, 409, "version_not_servable", **options)
    assert (await there.imported(archive))["versions_added"] == 1


async def test_an_import_that_fails_while_its_files_are_moved_leaves_none(
    full: Registry, there: Registry
) -> None:
    """The store's disk fails at each adapter's files in turn."""
    archive = await full.export()
    digests = {name.split("/")[1] for name in parts_of(archive) if name.startswith("files/")}
    assert len({digest[:2] for digest in digests}) > 2
    for digest in sorted(digests):
        obstacle = there.store / "adapters" / digest[:2]
        if obstacle.is_dir():
            obstacle.rmdir()
        obstacle.write_bytes(b"no folder can be made here")
        refused = await there.import_(archive)
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert list((there.store / "adapters").glob("*/*")) == []
        obstacle.unlink()
        assert await there.everything() == {"files": []}
    await there.imported(archive)


async def test_two_concurrent_imports_and_a_registration_all_succeed(
    full: Registry, there: Registry, make_adapter: AdapterMaker
) -> None:
    archive = await full.export()
    first, second, other, new = await asyncio.gather(
        there.import_(archive),
        there.import_(archive),
        there.client.post(
            "/adapters/other/versions", json={"source": str(make_adapter("x", seed=77))}
        ),
        there.publish("new", make_adapter("y", seed=78)),
    )
    assert new["number"] == 1
    assert other.status_code == 201, other.text
    assert {first.status_code, second.status_code} <= {200, 409}, (first.text, second.text)
    if other.json()["number"] == 2:  # the import was faster
        assert {first.status_code, second.status_code} == {200}
        added = first.json()["versions_added"] + second.json()["versions_added"]
        assert added == 7
    else:
        assert {first.status_code, second.status_code} == {409}
        assert len((await there.get("/adapters"))["items"]) == 2


# ---- what can't be imported ------------------------------------------------------------------


async def test_other_content_under_a_number_is_a_conflict(
    full: Registry, there: Registry, make_adapter: AdapterMaker
) -> None:
    await there.publish("bot", make_adapter("mine", seed=99))
    detail = await there.refused(await full.export(), 409, "import_conflict")
    assert "bot:1 has other content here" in detail


async def test_known_content_under_another_number_is_a_conflict(
    full: Registry, there: Registry, tmp_path: Path
) -> None:
    await there.publish("bot", tmp_path / "sources" / "a1")
    detail = await there.refused(await full.export(), 409, "import_conflict")
    assert "bot:2 is bot:1 here" in detail


async def test_the_base_model_s_name_is_refused(full: Registry, there: Registry) -> None:
    parts = parts_of(await full.export("other"))
    manifest = changed_json(parts.pop("adapters/other.json"), lambda m: m.update(name="base"))
    del parts["events.jsonl"]
    archive = archive_of(sealed({**parts, "adapters/base.json": manifest}))
    await there.refused(archive, 409, "name_reserved")


async def test_versions_that_can_t_be_served_are_refused_or_left_out(
    full: Registry, there: Registry, make_adapter: AdapterMaker
) -> None:
    await full.publish("bot", make_adapter("large", seed=7, rank=16))  # there, 8 is the limit
    await full.ok("PUT", "/adapters/bot/aliases/large", {"version": 7})
    archive = await full.export()
    detail = await there.refused(archive, 422, "rank_too_large")
    assert detail.startswith("nothing was imported: bot:7: r: rank 16")
    report = await there.imported(archive, invalid="skip")
    assert list(report["skipped"]) == ["bot:7"]
    assert report["aliases_kept"] == ["bot@large"]
    assert report["versions_added"] == 7
    versions = (await there.get("/adapters/bot/versions"))["items"]
    assert [version["number"] for version in versions] == [1, 2, 3, 4, 5, 6]


def _without(parts: dict[str, bytes], beginning: str) -> dict[str, bytes]:
    name = next(name for name in parts if name.startswith(beginning))
    return {n: content for n, content in parts.items() if n != name}


def _flipped(parts: dict[str, bytes], ending: str) -> dict[str, bytes]:
    name = next(name for name in parts if name.endswith(ending))
    content = bytearray(parts[name])
    content[len(content) // 2] ^= 1
    return {**parts, name: bytes(content)}


def _manifest(parts: dict[str, bytes], change: Callable[[Json], object]) -> dict[str, bytes]:
    name = "adapters/bot.json"
    return sealed({**parts, name: changed_json(parts[name], change)})


BROKEN: dict[str, tuple[str, Callable[[dict[str, bytes]], dict[str, bytes]]]] = {
    "a changed weight": ("digest_mismatch", lambda p: _flipped(p, ".safetensors")),
    "a changed configuration": ("digest_mismatch", lambda p: _flipped(p, "adapter_config.json")),
    "a changed manifest": ("digest_mismatch", lambda p: _flipped(p, "bot.json")),
    "a changed event": ("digest_mismatch", lambda p: _flipped(p, "events.jsonl")),
    "no index": ("archive_incomplete", lambda p: _without(p, INDEX)),
    "no manifest": ("archive_incomplete", lambda p: _without(p, "adapters/")),
    "no events": ("archive_incomplete", lambda p: _without(p, "events")),
    "half of the files": ("digest_mismatch", lambda p: _without(p, "files/")),
    "no files": (
        "archive_incomplete",
        lambda p: sealed({n: c for n, c in p.items() if not n.startswith("files/")}),
    ),
    "one more manifest": (
        "archive_invalid",
        lambda p: {**p, "adapters/extra.json": p["adapters/bot.json"]},
    ),
    "one more folder": (
        "archive_invalid",
        lambda p: {**p, f"files/{'ab' * 32}/adapter_config.json": b"{}"},
    ),
    "another file": ("archive_invalid", lambda p: {**p, "README.md": b""}),
    "another file of an adapter": (
        "archive_invalid",
        lambda p: {**p, f"files/{'ab' * 32}/adapter_model.bin": b""},
    ),
    "only what is beside an adapter": (
        "archive_incomplete",
        lambda p: {**p, f"files/{'ab' * 32}/beside/tokenizer_config.json": b"{}"},
    ),
    "a path that leads out": ("archive_invalid", lambda p: {**p, "../adapters/x.json": b""}),
    "an absolute path": ("archive_invalid", lambda p: {**p, "/etc/passwd": b""}),
    "a newer format": (
        "archive_invalid",
        lambda p: {**p, INDEX: changed_json(p[INDEX], lambda i: i.update(version=2))},
    ),
    "no JSON": ("archive_invalid", lambda p: {**p, INDEX: b"{"}),
    "an unknown field": ("archive_invalid", lambda p: _manifest(p, lambda m: m.update(more=1))),
    "another name": ("archive_invalid", lambda p: _manifest(p, lambda m: m.update(name="x"))),
    "a pending version": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m["versions"][0].update(state="pending")),
    ),
    "a version twice": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m["versions"][1].update(number=1)),
    ),
    "an alias whose name is none": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m["aliases"][0].update(name="acme~prod")),
    ),
    "an alias whose name is too long": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m["aliases"][0].update(name="a" * 65)),
    ),
    "a served name with an alias that is none": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m.update(names=[{"name": "Bot", "alias": "No Alias"}])),
    ),
    "an adapter whose name is too long": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m.update(name="tenant~" + "a" * 64)),
    ),
    "an alias on nothing": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m["aliases"][0]["states"][-1].update(weights={"9": 1})),
    ),
    "an alias in two places": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m["aliases"][2]["states"][0].update(valid_to=None)),
    ),
    "an ancestor of itself": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m["versions"][0].update(parent="bot:2")),
    ),
    "a NUL in a text": (
        "archive_invalid",
        lambda p: _manifest(p, lambda m: m.update(description="a\0b")),
    ),
    "an event of an unknown adapter": (
        "archive_invalid",
        lambda p: sealed(
            {
                **p,
                "events.jsonl": p["events.jsonl"].replace(b'"adapter": "other"', b'"adapter": "x"'),
            }
        ),
    ),
}


@pytest.mark.parametrize("database_kind", ["sqlite"])  # no database is asked before all is well
async def test_a_broken_export_is_refused_and_leaves_nothing(
    full: Registry, there: Registry
) -> None:
    parts = parts_of(await full.export())
    await there.imported(archive_of(parts), dry_run=True)
    for what, (code, breaks) in BROKEN.items():
        for dry_run in ("true", "false"):
            response = await there.import_(archive_of(breaks(dict(parts))), dry_run=dry_run)
            found = (response.status_code, response.json()["code"])
            assert found == (422, code), f"{what}: {response.text}"
        assert await there.everything() == {"files": []}, what


async def test_anything_but_a_tar_is_refused(full: Registry, there: Registry) -> None:
    archive = await full.export()
    for content in (b"", b"x" * 100_000, archive[:700], archive[: len(archive) // 2]):
        await there.refused(content, 422, "archive_invalid")
    for cut in (512, 1024 * (len(archive) // 2048)):
        response = await there.import_(archive[:cut])
        assert response.status_code == 422
        assert response.json()["code"] in ("archive_invalid", "archive_incomplete")
    assert (await there.everything()) == {"files": []}


async def test_a_file_twice_is_refused(full: Registry, there: Registry) -> None:
    archive = await full.export()
    twice = archive[:-1024] + archive
    detail = await there.refused(twice, 422, "archive_invalid")
    assert detail == f"{INDEX} is there twice"


async def test_an_archive_larger_than_allowed_is_refused(
    full: Registry, there: Registry, tmp_path: Path, database: Database
) -> None:
    archive = await full.export()
    store = ArtifactStore(tmp_path / "store", source_roots=[], max_bytes=1_000_000)
    small = RegistryService(database, store, BASE, max_rank=8, max_import_bytes=len(archive) // 2)
    app = FastAPI()
    take_in(app, create_router(small))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x/api/v1") as client:
        registry = Registry(client, tmp_path / "store", database)
        await registry.refused(archive, 413, "source_too_large")


async def test_an_adapter_larger_than_allowed_is_refused_in_an_archive_too(
    full: Registry, tmp_path: Path, database: Database
) -> None:
    archive = await full.export()
    store = ArtifactStore(tmp_path / "store", source_roots=[], max_bytes=300)
    strict = RegistryService(database, store, BASE, max_rank=8)
    app = FastAPI()
    take_in(app, create_router(strict))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x/api/v1") as client:
        detail = await Registry(client, tmp_path / "store", database).refused(
            archive, 413, "source_too_large"
        )
    assert "more than 300 bytes" in detail


async def test_a_document_that_is_too_large_is_refused_before_it_is_written(
    full: Registry, there: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be read as a whole."""
    archive = await full.export()
    monkeypatch.setattr(unpack, "_MAX_DOCUMENT_BYTES", 100)
    detail = await there.refused(archive, 413, "source_too_large")
    assert "is larger than 100 bytes" in detail


async def test_endless_headers_are_refused(there: Registry) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    await there.refused(header.tobuf() * 5000, 422, "archive_invalid")


async def test_files_that_exist_here_need_not_be_sent(full: Registry, there: Registry) -> None:
    parts = parts_of(await full.export())
    await there.imported(archive_of(parts))
    bare = sealed({n: c for n, c in parts.items() if not n.startswith("files/")})
    again = await there.imported(archive_of(bare))
    assert again.items() >= UNCHANGED.items()


async def test_an_export_packed_by_other_tools_is_accepted(full: Registry, there: Registry) -> None:
    """GNU tar and Python name and order entries in their own way."""
    parts = parts_of(await full.export())
    renamed = {f"./{name}": parts[name] for name in reversed(parts)}
    report = await there.imported(archive_of(renamed, format=1))
    assert report["versions_added"] == 7


async def test_damaged_files_are_not_exported(full: Registry) -> None:
    weights = next(full.store.rglob("adapter_model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    response = await full.client.get("/export")
    assert (response.status_code, response.json()["code"]) == (409, "files_damaged")
    weights.unlink()
    weights.with_name("adapter_config.json").unlink()
    weights.parent.rmdir()
    response = await full.client.get("/export")
    assert (response.status_code, response.json()["code"]) == (409, "files_missing")
    assert not list((full.store / "quarantine").iterdir())


async def test_a_tenants_adapters_are_imported_only_where_the_tenant_exists(
    here: Registry, there: Registry, make_adapter: AdapterMaker
) -> None:
    await here.tenants.create("acme", {}, actor="tests")
    await here.publish("acme~bot", make_adapter("one"))
    archive = await here.export("acme~bot")
    for dry_run in ("true", "false"):
        detail = await there.refused(archive, 404, "unknown_tenant", dry_run=dry_run)
        assert detail == "there is no tenant 'acme'"
    assert (await here.imported(archive))["adapters_added"] == 0
    await there.tenants.create("acme", {}, actor="tests")
    assert (await there.imported(archive))["adapters_added"] == 1
    assert (await there.get("/adapters/acme~bot/aliases/default"))["version"] == 1
