"""Backups of a registry in use, and their restoration on a new machine."""

import asyncio
import itertools
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import URL

from adaptry.cli import main
from registry.backup import database_dump as backup_rows
from registry.backup.backup import back_up
from registry.backup.database_dump import NamedVersion
from tests.api.conftest import BASE, AdapterMaker
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.registry_in_loop import Registry, running_registry

pytestmark = pytest.mark.both_databases

Json = dict[str, Any]
Captured = pytest.CaptureFixture[str]
NewDatabase = Callable[[], str]
PAGES = (
    "/adapters?limit=100",
    "/versions?limit=100",
    "/adapters/bot/aliases",
    "/adapters/bot/aliases/prod/history",
    "/events?limit=100",
    "/webhooks",
    "/resolve?reference=bot@prod",
    "/resolve?reference=bot",
)
LOCAL: Json = {"allowed_networks": ("127.0.0.1",)}  # the webhook's network; it has no server
_numbers = itertools.count(1)


@pytest.fixture
def new_database(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> NewDatabase:
    def make() -> str:
        name = f"restored_{next(_numbers)}"
        if database_kind == "sqlite":
            return f"sqlite:///{tmp_path}/{name}/registry.db"
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.new_database(name)

    return make


async def command(*arguments: object) -> int:
    return await asyncio.to_thread(main, ["db", *map(str, arguments)])


def place(url: str, folder: Path) -> Sequence[str]:
    return "--database", url, "--store", str(folder / "store")


async def done(response: httpx.Response) -> Json:
    assert response.is_success, response.text
    answer: Json = response.json() if response.content else {}
    return answer


async def fill(registry: Registry, make_adapter: AdapterMaker) -> None:
    """Three versions, one retired, an alias with a history, search words, and a webhook."""
    http = registry.http
    for n in (1, 2, 3):
        await done(await registry.register("bot", make_adapter(f"bot-{n}", seed=n)))
    for n in (1, 2, 1):
        await done(await http.put("/adapters/bot/aliases/prod", json={"version": n}))
    await done(await http.post("/adapters/bot/versions/3/retire", json={"reason": "old"}))
    await done(await http.patch("/adapters/bot", json={"owner": "team", "tags": ["mail"]}))
    await done(await http.post("/webhooks", json={"url": "http://127.0.0.1:9/hooks"}))


async def snapshot(http: httpx.AsyncClient) -> list[Json]:
    """All that it says of what it holds."""
    return [await done(await http.get(page)) for page in PAGES]


async def test_a_restored_registry_has_the_same_content_and_continues(
    database_url: str, new_database: NewDatabase, tmp_path: Path, make_adapter: AdapterMaker
) -> None:
    async with running_registry(database_url, tmp_path, BASE, **LOCAL) as registry:
        await fill(registry, make_adapter)
        before = await snapshot(registry.http)
        assert await command("backup", tmp_path / "backup", *place(database_url, tmp_path)) == 0
        assert len(registry.kept()) == 3
    new, machine = new_database(), tmp_path / "machine"
    machine.mkdir()
    assert await command("restore", tmp_path / "backup", *place(new, machine)) == 0
    async with running_registry(new, machine, BASE, **LOCAL) as restored:
        assert await snapshot(restored.http) == before
        assert restored.kept() == registry.kept()
        folder = make_adapter("bot-4", seed=4).rename(machine / "sources" / "bot-4")
        assert (await done(await restored.register("bot", folder)))["reference"] == "bot:4"


async def test_a_backup_of_a_busy_registry_has_all_files_of_its_rows(
    database_url: str, new_database: NewDatabase, tmp_path: Path, make_adapter: AdapterMaker
) -> None:
    """Registrations, promotions and purges continue while backups are made."""
    stop = asyncio.Event()

    async def change(registry: Registry) -> int:
        for n in itertools.count(1):
            if stop.is_set():
                return n
            folder = make_adapter(f"busy-{n}", seed=n)
            number = (await done(await registry.register("bot", folder)))["number"]
            await done(await registry.http.put("/adapters/bot/aliases/prod", json={"version": n}))
            if number > 2:
                body = {"move_aliases_to": number}
                versions = f"/adapters/bot/versions/{number - 1}"
                await done(await registry.http.post(f"{versions}/retire", json=body))
                await done(await registry.http.post(f"{versions}/purge", json={}))
        raise AssertionError

    async with running_registry(database_url, tmp_path, BASE, **LOCAL) as registry:
        changing = asyncio.create_task(change(registry))
        while not (await registry.http.get("/resolve?reference=bot")).is_success:
            await asyncio.sleep(0.01)
        for n in range(4):
            backup, new, machine = tmp_path / "backup", new_database(), tmp_path / f"machine-{n}"
            machine.mkdir()
            assert await command("backup", backup, *place(database_url, tmp_path)) == 0
            assert await command("restore", backup, *place(new, machine)) == 0
            async with running_registry(new, machine, BASE, works=False) as restored:
                versions = (await done(await restored.http.get("/versions?limit=100")))["items"]
                named = {v["digest"] for v in versions if v["state"] in ("ready", "deprecated")}
                assert named
                assert named <= restored.kept()
        stop.set()
        assert await changing > 4


async def test_a_purge_between_rows_and_files_makes_the_backup_start_over(
    database_url: str, tmp_path: Path, make_adapter: AdapterMaker
) -> None:
    async with running_registry(database_url, tmp_path, BASE, **LOCAL) as registry:
        await fill(registry, make_adapter)
        loop = asyncio.get_running_loop()
        seen: list[set[str]] = []

        async def purge() -> None:
            versions = "/adapters/bot/versions/2"
            await done(await registry.http.post(f"{versions}/retire", json={}))
            await done(await registry.http.post(f"{versions}/purge", json={}))

        def dump(url: URL, into: Path) -> Sequence[NamedVersion]:
            versions = backup_rows.dump(url, into)
            seen.append({f"{each.reference} {each.state}" for each in versions})
            if len(seen) == 1:
                asyncio.run_coroutine_threadsafe(purge(), loop).result(30)
            return versions

        backup, store = tmp_path / "backup", tmp_path / "store"
        report = await asyncio.to_thread(back_up, database_url, store, backup, dump=dump)
        first, second = seen
        assert "bot:2 ready" in first
        assert "bot:2 purged" in second
        assert report.versions == 3
        assert {path.name for path in backup.glob("store/adapters/*/*")} == registry.kept()


async def test_the_next_backup_copies_what_is_new_and_drops_what_was_purged(
    database_url: str, tmp_path: Path, make_adapter: AdapterMaker, capfd: Captured
) -> None:
    backup = tmp_path / "backup"
    async with running_registry(database_url, tmp_path, BASE, **LOCAL) as registry:
        await fill(registry, make_adapter)
        for expected in (3, 0):
            assert await command("backup", backup, *place(database_url, tmp_path)) == 0
            said = capfd.readouterr().out
            assert re.search(rf" 3 versions, [1-9.]+ KiB, {expected} new$", said, re.MULTILINE)
        await done(await registry.http.post("/adapters/bot/versions/3/purge", json={}))
        await done(await registry.register("bot", make_adapter("bot-4", seed=4)))
        assert await command("backup", backup, *place(database_url, tmp_path)) == 0
        assert ", 1 new" in capfd.readouterr().out
        assert {path.name for path in backup.glob("store/adapters/*/*")} == registry.kept()
    assert backup.stat().st_mode & 0o77 == 0, "the rows hold the webhooks' secrets"


async def test_a_failed_backup_leaves_the_previous_one(
    database_url: str,
    new_database: NewDatabase,
    tmp_path: Path,
    make_adapter: AdapterMaker,
    capfd: Captured,
) -> None:
    backup = tmp_path / "backup"
    async with running_registry(database_url, tmp_path, BASE, **LOCAL) as registry:
        await fill(registry, make_adapter)
        assert await command("backup", backup, *place(database_url, tmp_path)) == 0
        new = await done(await registry.register("bot", make_adapter("bot-4", seed=4)))
        weights = next((tmp_path / "store").glob(f"adapters/*/{new['digest']}/*.safetensors"))
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + b"!")
        capfd.readouterr()
        assert await command("backup", backup, *place(database_url, tmp_path)) == 1
        assert "is not what was registered" in one_line(capfd)
        weights.parent.rename(tmp_path / "gone")
        assert await command("backup", backup, *place(database_url, tmp_path)) == 1
        assert one_line(capfd).startswith("adaptry: bot:4: no files in ")
    assert not list(backup.rglob("*.partial"))
    url, machine = new_database(), tmp_path / "machine"
    assert await command("restore", backup, *place(url, machine)) == 0
    assert capfd.readouterr().out.startswith("restored: 3 adapters' files")


async def test_a_damaged_backup_fills_no_database(
    database_url: str,
    new_database: NewDatabase,
    tmp_path: Path,
    make_adapter: AdapterMaker,
    capfd: Captured,
) -> None:
    backup, url, machine = tmp_path / "backup", new_database(), tmp_path / "machine"
    async with running_registry(database_url, tmp_path, BASE, **LOCAL) as registry:
        await fill(registry, make_adapter)
        assert await command("backup", backup, *place(database_url, tmp_path)) == 0
    weights = next(backup.rglob("*.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"!")
    capfd.readouterr()
    assert await command("restore", backup, *place(url, machine)) == 1
    assert "is not what was registered" in one_line(capfd)
    weights.write_bytes(content)
    assert await command("restore", backup, *place(url, machine)) == 0, "nothing is in its way"
    capfd.readouterr()
    assert await command("restore", backup, *place(url, machine)) == 1
    assert "restore into" in one_line(capfd)


def one_line(capfd: Captured) -> str:
    (line,) = capfd.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["backup", "b", "--database", "sqlite:///none.db"], "there is no none.db"),
        (["backup", "b", "--database", "sqlite:///text.txt"], "can't be copied"),
        (["backup", "b", "--database", "sqlite:///other.db"], "this is no registry"),
        (["backup", "b", "--database", "sqlite://"], "in memory"),
        (["backup", "b", "--database", "postgresql://x@127.0.0.1:1/x"], "can't be used now"),
        (["backup", "/proc/x", "--database", "sqlite:///other.db"], "/proc/x"),
        (["restore", "b", "--database", "sqlite:///new.db"], "this is no backup"),
        (["restore", "old", "--database", "postgresql://x@127.0.0.1:1/x"], "of SQLite"),
    ],
)
async def test_an_error_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Captured,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("x" * 5000)
    sqlite3.connect("other.db").close()
    Path("old").mkdir()
    sqlite3.connect("old/registry.db").close()
    assert await command(*arguments) == 1
    assert message in one_line(capfd)
    assert not list(Path().rglob("*.partial"))


async def test_what_a_killed_backup_left_is_no_part_of_it(
    database_url: str, new_database: NewDatabase, tmp_path: Path, make_adapter: AdapterMaker
) -> None:
    """It is killed while it copies: the folder remains the backup that was made before."""
    backup = tmp_path / "backup"
    async with running_registry(database_url, tmp_path, BASE, **LOCAL) as registry:
        await fill(registry, make_adapter)
        assert await command("backup", backup, *place(database_url, tmp_path)) == 0
    left = backup / "store" / "adapters" / "ab" / f"ab{'0' * 62}.partial"
    left.mkdir(parents=True)
    (left / "adapter_config.json").write_text("{")
    machine = tmp_path / "machine"
    assert await command("restore", backup, *place(new_database(), machine)) == 0
    assert not list((machine / "store").rglob("*.partial"))
