"""Databases of every earlier revision, with data, as today's code finds and serves them."""

import asyncio
import itertools
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx
import pytest
from alembic import command

from adaptry.cli import main
from registry.database.migrate import alembic_config, upgrade
from registry.inspection.base_model import BaseModel
from tests.db import old_schemas as past
from tests.db.old_schemas import REVISIONS, Ask, Rows, asked, fill, fill_until, in_connection
from tests.support.adapters.demo_files import keep_demo_adapter
from tests.support.databases.postgres import PostgresServer
from tests.support.servers import killed_upgrade
from tests.support.servers.forks import forked_process
from tests.support.servers.registry_in_loop import running_registry

pytestmark = pytest.mark.both_databases

TABLES = (
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
)


Counts = dict[str, int]

_numbers = itertools.count(1)


def counts(url: str) -> Counts:
    """Rows by table."""

    async def count(ask: Ask) -> Rows:
        names = await ask(TABLES["postgresql" in url])
        each = [f"SELECT '{name}', count(*) FROM {name}" for (name,) in names]
        return await ask(" UNION ALL ".join(each)) if each else []

    return dict(in_connection(url, count))


@dataclass
class Filled:
    """A database that each release has filled, one after the other.

    `counted`: rows by table before each revision and after it.
    """

    url: str
    counted: dict[str, tuple[Counts, Counts]] = field(default_factory=dict)

    def go_through_every_schema(self) -> None:
        for revision in REVISIONS:
            before = counts(self.url)
            command.upgrade(alembic_config(self.url), revision)
            self.counted[revision] = before, counts(self.url)
            fill(self.url, revision)


@pytest.fixture(scope="module")
def filled_once(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], Filled]:
    """By kind of database. Tests have copies: each schema takes an upgrade of its own."""

    @cache
    def filled(kind: str) -> Filled:
        url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('filled')}/registry.db"
        if kind == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = server.new_database("filled")
        made = Filled(url)
        made.go_through_every_schema()
        return made

    return filled


@pytest.fixture
def every_schema(
    database_kind: str,
    filled_once: Callable[[str], Filled],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> str:
    """The URL of a copy of the database with the rows of every release."""
    filled = filled_once(database_kind)
    if database_kind == "sqlite":
        file = shutil.copy(filled.url.partition("///")[2], tmp_path / "every_schema.db")
        return f"sqlite+aiosqlite:///{file}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database(f"every_schema_{next(_numbers)}", template="filled")


@pytest.fixture
def old_database(database_kind: str, request: pytest.FixtureRequest) -> str:
    """With the rows of the first release, or of every one."""
    if request.param == REVISIONS[-1]:
        return str(request.getfixturevalue("every_schema"))
    url = str(request.getfixturevalue("empty_database"))
    fill_until(url, request.param)
    return url


def test_every_table_has_rows_here(every_schema: str) -> None:
    """A revision that adds a table adds rows for it to tests/db/old_schemas.py."""
    assert not [table for table, rows in counts(every_schema).items() if not rows]


def test_no_row_of_any_revision_is_lost(
    database_kind: str, filled_once: Callable[[str], Filled]
) -> None:
    """The rows that each release wrote, through every later revision."""
    filled = filled_once(database_kind)
    assert list(filled.counted) == REVISIONS
    for revision, (before, after) in filled.counted.items():
        assert {table: after[table] for table in before} == before, revision
    command.check(alembic_config(filled.url))


@pytest.mark.parametrize(
    ("last", "old_database"),
    [(past.FIRST, past.FIRST), (REVISIONS[-1], REVISIONS[-1])],
    indirect=["old_database"],
    ids=["first schema", "every schema"],
)
async def test_data_of_the_first_schema_is_served(
    old_database: str, tmp_path: Path, last: str
) -> None:
    await asyncio.to_thread(upgrade, old_database)
    for name in past.DIGESTS:
        keep_demo_adapter(tmp_path / "store", name)
    base = BaseModel("tiny-text-tools", None)
    running = running_registry(old_database, tmp_path, base, job_retention_days=10_000)
    async with running as registry:
        await registry.service.recover()  # as at a server's start: the versions are bound
        http = registry.http
        await check_versions(http)
        await check_first_events(http)
        if last != past.FIRST:
            await check_later_rows(http)
        source = tmp_path / "sources" / "new"
        keep_demo_adapter(source, "stars")
        folder = next(source.glob("adapters/*/*"))
        new = (await registry.register("support", folder)).json()
        assert (new["reference"], new["parent"]) == ("support:4", None), "numbers go on"


async def check_versions(http: httpx.AsyncClient) -> None:
    numbered = zip(past.VERSIONS, (1, 2, 3, 1), strict=True)
    for (name, number), adapter in zip(numbered, ["support"] * 3 + ["other"], strict=True):
        version = (await http.get(f"/adapters/{adapter}/versions/{number}")).json()
        assert version["digest"] == past.DIGESTS[name]
        assert (version["source"], version["created_by"]) == (f"/srv/{name}", "anna")
        assert version["target_modules"] == ["q_proj", "v_proj"]
        assert version["created_at"].startswith(f"2026-01-{number:02}T00:00:00")
    resolved = {
        reference: (await http.get("/resolve", params={"reference": reference})).json()["reference"]
        for reference in ("support", "other", "support:1")
    }
    assert resolved == {"support": "support:2", "other": "other:1", "support:1": "support:1"}
    retired = await http.get("/resolve", params={"reference": "support:3"})
    assert (retired.status_code, retired.json()["code"]) == (410, "version_retired")
    assert "too old" in retired.json()["detail"]
    found = (await http.get("/versions", params={"text": "support"})).json()["items"]
    assert len(found) == 3, "what was there before the search is found by it"


async def check_first_events(http: httpx.AsyncClient) -> None:
    events = (await http.get("/adapters/support/events")).json()["items"]
    kinds = [(event["kind"], event["actor"], event["reason"]) for event in events]
    assert kinds.count(("version.registered", "anna", "because")) == 2
    assert ("alias.moved", "anna", "because") in kinds


async def check_later_rows(http: httpx.AsyncClient) -> None:
    support = (await http.get("/adapters/support")).json()
    assert (support["owner"], support["tags"]) == ("team", ["mail"])
    named = (await http.get("/resolve", params={"reference": "Org/Support"})).json()
    assert named["reference"] == "support:2", "what support@prod means"
    history = (await http.get("/adapters/support/aliases/prod/history")).json()["items"]
    assert [(state["revision"], state["version"]) for state in history] == [(2, 2), (1, 1)]
    at = {"at": "2026-01-06T00:00:00Z"}
    then = (await http.get("/adapters/support/aliases/prod", params=at)).json()
    assert then["version"] == 1, "what it meant at that time"
    assert (await http.get("/adapters/support/versions/2")).json()["parent"] == "support:1"
    webhooks = (await http.get("/webhooks")).json()["items"]
    assert [hook["url"] for hook in webhooks] == ["https://example.com/hooks"]
    jobs = (await http.get("/jobs")).json()["items"]
    assert [(job["state"], job["adapter"]) for job in jobs] == [("succeeded", "support")]


def test_servers_that_start_together_upgrade_one_after_the_other(empty_database: str) -> None:
    fill_until(empty_database, past.FIRST)
    started = [forked_process(killed_upgrade.run_command, (empty_database,)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0, 0]
    command.check(alembic_config(empty_database))


def test_an_upgrade_that_is_killed_leaves_the_old_schema(
    empty_database: str, is_long: bool
) -> None:
    fill_until(empty_database, past.FIRST)
    before = counts(empty_database)
    killed = 0
    for statement in range(2, 1000, 11 if is_long else 37):
        arguments = (empty_database, statement)
        upgrading = forked_process(killed_upgrade.run, arguments, daemon=True)
        upgrading.start()
        upgrading.join(120)
        if upgrading.exitcode == 0:
            break
        assert upgrading.exitcode == -signal.SIGKILL
        assert counts(empty_database) == before
        current = asked(empty_database, "SELECT version_num FROM alembic_version")
        assert current == [(past.FIRST,)]
        killed += 1
    assert killed >= 4
    command.check(alembic_config(empty_database))


def test_a_database_of_a_newer_release_is_refused_in_one_line(
    empty_database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    upgrade(empty_database)
    asked(empty_database, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    capfd.readouterr()
    assert main(["db", "upgrade", "--database", empty_database]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "a newer Adaptry has upgraded this database to ffffffffffff" in line
    assert asked(empty_database, "SELECT version_num FROM alembic_version") == [("ffffffffffff",)]
