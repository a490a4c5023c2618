"""The registry's series against manual counts, over real databases and a real webhook receiver."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.models import Event, EventKind, now
from registry.models.job import Job, JobState
from registry.notifications import Notifications
from registry.telemetry.gauges import RegistryGauges
from registry.telemetry.label_limit import LabelLimit
from registry.telemetry.metrics import RegistryMetrics
from tests.support.databases.noted_statements import noted_statements
from tests.support.servers.registry_in_loop import Registry, running_registry
from tests.support.servers.webhook_receiver import Answer, Receiver, add

pytestmark = pytest.mark.both_databases

AdapterMaker = Callable[..., Path]


class Counted:
    """What a scrape would show; a series that is not there reads None."""

    def __init__(self) -> None:
        self.collectors = CollectorRegistry()
        self.metrics = RegistryMetrics(self.collectors)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.collectors.get_sample_value(f"adaptry_{name}", labels)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
async def registry(
    counted: Counted, database_url: str, tmp_path: Path, base_model: Any
) -> AsyncIterator[Registry]:
    """Adapters up to 1,000 bytes are registered directly."""
    running = running_registry(
        database_url,
        tmp_path,
        base_model,
        metrics=counted.metrics,
        max_direct_bytes=1_000,
        allowed_networks=("127.0.0.1",),
    )
    async with running as started:
        yield started


@pytest.fixture
async def state(counted: Counted, database_url: str) -> AsyncIterator[RegistryGauges]:
    """Of a second server on the same database."""
    database = Database(database_url)
    labels = LabelLimit(1)
    labels.of("bot")
    yield RegistryGauges(database, labels, counted.collectors)
    await database.close()


async def write_alias_event(database: Database, then: Exception | None = None) -> None:
    async with database.transaction() as session:
        session.add(Event(actor="a", kind=EventKind.ALIAS_MOVED))
        await session.flush()
        if then is not None:
            raise then


async def test_every_series_reads_zero_from_the_start(counted: Counted) -> None:
    for action in ("moved", "split", "deleted"):
        assert counted("alias_moves_total", action=action) == 0
    for outcome in ("succeeded", "failed", "cancelled"):
        assert counted("ingest_ended_total", outcome=outcome) == 0
    for outcome in ("delivered", "failed"):
        assert counted("webhook_deliveries_total", outcome=outcome) == 0
    assert counted("database_errors_total") == 0
    assert counted("database_seconds_count", operation="write") == 0


async def test_registrations_are_counted_direct_or_as_jobs(
    registry: Registry, counted: Counted, make_adapter: AdapterMaker
) -> None:
    small, large, bad = make_adapter("s"), make_adapter("l", rank=16), make_adapter("b", seed=2)
    fetched = [*small.iterdir(), *large.iterdir()]
    assert (await registry.register("bot", small)).status_code == 201
    job = await registry.finished(await registry.register("bot", large))
    assert job["state"] == "succeeded"
    (bad / "adapter_config.json").write_text("{")
    refused = await registry.register("bot", bad)
    assert refused.json()["code"] == "config_invalid"
    assert counted("ingest_ended_total", outcome="succeeded") == 2
    assert counted("ingest_ended_total", outcome="failed") == 1
    assert counted("ingest_ended_total", outcome="cancelled") == 0
    assert counted("rejections_total", code="config_invalid") == 1
    assert counted("ingest_seconds_count") == 3
    assert counted("ingest_bytes_total") == sum(file.stat().st_size for file in fetched)


async def test_a_job_that_fails_or_is_cancelled_is_counted_once(
    counted: Counted, database_url: str, tmp_path: Path, base_model: Any, make_adapter: AdapterMaker
) -> None:
    settings: dict[str, Any] = {"max_direct_bytes": 0, "metrics": counted.metrics}
    async with running_registry(database_url, tmp_path, base_model, **settings) as registry:
        bad = await registry.finished(await registry.register("bot", make_adapter("b", rank=32)))
        assert bad["state"] == "failed"
    settings["works"] = False
    async with running_registry(database_url, tmp_path, base_model, **settings) as registry:
        number = (await registry.register("bot", make_adapter("a"))).json()["id"]
        assert (await registry.http.post(f"/jobs/{number}/cancel")).status_code in (200, 202)
    assert counted("ingest_ended_total", outcome="failed") == 1
    assert counted("ingest_ended_total", outcome="cancelled") == 1
    assert counted("ingest_ended_total", outcome="succeeded") == 0
    assert counted("rejections_total", code="rank_too_large") == 1


async def test_moves_of_aliases_and_quarantines_are_counted_once_committed(
    registry: Registry, counted: Counted, make_adapter: AdapterMaker
) -> None:
    for seed in range(3):
        await registry.register("bot", make_adapter(str(seed), seed=seed))
    assert counted("alias_moves_total", action="moved") == 1, "the first version is the default"
    put = registry.http.put
    assert (await put("/adapters/bot/aliases/prod", json={"version": 2})).is_success
    assert (await put("/adapters/bot/aliases/prod", json={"version": 2})).is_success  # is there
    split = {"weights": [{"version": 2, "weight": 1}, {"version": 3, "weight": 3}]}
    assert (await put("/adapters/bot/aliases/prod", json=split)).is_success
    refused = await put("/adapters/bot/aliases/prod", json={"version": 1, "expected_version": 2})
    assert refused.status_code == 409
    assert (await registry.http.delete("/adapters/bot/aliases/prod")).is_success
    assert counted("alias_moves_total", action="moved") == 2
    assert counted("alias_moves_total", action="split") == 1
    assert counted("alias_moves_total", action="deleted") == 1
    for number, code in ((2, "operator"), (3, "s3cret_name")):
        path = f"/adapters/bot/versions/{number}/quarantine"
        for _ in range(2):  # the second time, it is there already
            assert (await registry.http.post(path, json={"reason": "r", "code": code})).is_success
    described = await registry.http.patch("/adapters/bot/versions/2", json={"description": "x"})
    assert described.is_success
    assert counted("quarantines_total", code="operator") == 1, "nor does any other change count"
    assert counted("quarantines_total", code="_other") == 1, "codes are a closed set"
    assert counted("quarantines_total", code="s3cret_name") is None


async def test_what_is_rolled_back_is_not_counted(counted: Counted, database_url: str) -> None:
    database = Database(database_url, observer=counted.metrics)
    with pytest.raises(RuntimeError):
        await write_alias_event(database, RuntimeError())
    assert counted("alias_moves_total", action="moved") == 0
    await write_alias_event(database)
    assert counted("alias_moves_total", action="moved") == 1
    assert counted("database_seconds_count", operation="write") == 2
    assert counted("database_seconds_count", operation="read") == 0
    async with database.read_session():
        pass
    assert counted("database_seconds_count", operation="read") == 1
    await database.close()


async def test_attempts_to_deliver_and_what_still_waits_are_counted(
    client: httpx.AsyncClient,
    database: Database,
    events: Notifications,
    receiver: Receiver,
    counted: Counted,
    state: RegistryGauges,
) -> None:
    events.dispatcher.on_attempt.append(counted.metrics.on_webhook_attempt)
    receiver.answers.extend([Answer(500), Answer(503), Answer(200)])
    await add(client, receiver, kinds=[EventKind.ALIAS_MOVED])
    await write_alias_event(database)
    await receiver.has(1)
    await state.look()
    assert counted("webhook_backlog") == 1
    await receiver.has(3)
    async with asyncio.timeout(20):
        while counted("webhook_backlog"):
            await state.look()
    assert counted("webhook_deliveries_total", outcome="delivered") == 1
    assert counted("webhook_deliveries_total", outcome="failed") == 2


async def test_a_database_that_is_away_is_seen(counted: Counted, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    database = Database(f"sqlite:///{folder}/registry.db", observer=counted.metrics)
    state = RegistryGauges(database, LabelLimit(10), counted.collectors)
    await database.ping()
    assert counted("database_up") == 1
    folder.rename(tmp_path / "away")
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    assert counted("database_errors_total") == 1
    await state.look()
    assert counted("database_up") == 0
    assert counted("registry_adapters") is None, "not known is not 0"
    assert counted("database_errors_total") == 2
    await database.close()


async def test_a_deleted_file_is_a_database_that_is_away(
    counted: Counted, tmp_path: Path, migrated_sqlite: Path
) -> None:
    """It can still be read, and whatever is written is gone with the next start."""
    file = Path(shutil.copy(migrated_sqlite, tmp_path / "deleted.db"))
    database = Database(f"sqlite:///{file}", observer=counted.metrics)
    state = RegistryGauges(database, LabelLimit(10), counted.collectors)
    await state.look()
    assert counted("registry_adapters") == 0
    aside = file.rename(tmp_path / "aside.db")
    await state.look()
    assert counted("database_up") == 0
    aside.rename(file)
    await state.look()
    assert counted("database_up") == 1
    await database.close()


async def look_until(state: RegistryGauges, holds: Callable[[], bool]) -> None:
    """A change is seen within a minute, or when it is told; a look may have begun before it."""
    async with asyncio.timeout(10):
        while not holds():
            state._database.notify_change()
            await state.look()


async def test_the_stock_is_counted_in_the_background(
    registry: Registry, state: RegistryGauges, counted: Counted, make_adapter: AdapterMaker
) -> None:
    await state.look()
    assert counted("registry_adapters") == 0
    assert counted("registry_versions", state="ready") == 0
    a, b = make_adapter("a"), make_adapter("b", seed=1)
    for name, source in (("bot", a), ("bot", b), ("other", a)):
        await registry.register(name, source)
    await registry.http.post("/adapters/bot/versions/2/retire")
    await registry.http.put("/adapters/bot/aliases/prod", json={"version": 1})
    sizes = {file: file.stat().st_size for source in (a, b) for file in source.iterdir()}
    await look_until(state, lambda: counted("store_bytes") == sum(sizes.values()))
    assert counted("registry_adapters") == 2
    assert counted("registry_versions", state="ready") == 2
    assert counted("registry_versions", state="retired") == 1
    assert counted("alias_version", adapter="bot", alias="prod") == 1
    assert counted("alias_version", adapter="bot", alias="default") == 1
    assert counted("alias_version", adapter="other", alias="default") is None, "it has no label"
    await registry.http.post("/adapters/bot/versions/2/purge")
    left = sum(size for file, size in sizes.items() if file.parent == a)
    await look_until(state, lambda: counted("store_bytes") == left)
    assert counted("registry_versions", state="purged") == 1


async def test_jobs_that_wait_are_seen(
    counted: Counted,
    state: RegistryGauges,
    database_url: str,
    tmp_path: Path,
    base_model: Any,
    make_adapter: AdapterMaker,
) -> None:
    await state.look()
    assert counted("ingest_jobs", state="queued") == 0
    assert counted("ingest_oldest_seconds") == counted("ingest_wait_seconds") == 0
    settings: dict[str, Any] = {"max_direct_bytes": 0, "works": False}
    async with running_registry(database_url, tmp_path, base_model, **settings) as registry:
        for name in ("a", "b"):
            assert (await registry.register(name, make_adapter(name))).status_code == 202
        await asyncio.sleep(0.05)
        await state.look()
        assert counted("ingest_jobs", state="queued") == 2
        assert counted("ingest_jobs", state="running") == 0
        age = counted("ingest_oldest_seconds")
        assert age is not None
        assert 0.05 <= age < 60
        assert counted("ingest_wait_seconds") == pytest.approx(age, abs=1)


async def add_job(database_url: str, **next_attempt: float) -> None:
    database = Database(database_url)
    async with database.transaction() as session:
        session.add(
            Job(
                adapter="a",
                source="hf://org/away",
                request={},
                workspace="a",
                state=JobState.QUEUED,
                next_attempt_at=now() + timedelta(**next_attempt),
                created_by="tests",
            )
        )
    await database.close()


async def test_a_job_between_two_attempts_does_not_wait_yet(
    counted: Counted, state: RegistryGauges, database_url: str
) -> None:
    await add_job(database_url, minutes=5)
    await state.look()
    assert counted("ingest_jobs", state="queued") == 1
    assert counted("ingest_wait_seconds") == 0


async def test_a_job_whose_time_has_come_waits_again_without_any_change(
    counted: Counted, state: RegistryGauges, database_url: str
) -> None:
    await add_job(database_url, seconds=0.3)
    await state.look()
    assert counted("ingest_wait_seconds") == 0
    await asyncio.sleep(0.4)
    await state.look()
    assert counted("ingest_wait_seconds") != 0


async def test_nothing_is_counted_again_until_something_was_committed(
    state: RegistryGauges, counted: Counted, database_url: str
) -> None:
    for _ in range(2):  # the first one opens the file, which writes to it
        await state.look()
    with noted_statements() as idle:
        await state.look()
    if database_url.startswith("sqlite"):
        assert idle == ["SELECT 1"]
    await add_job(database_url, minutes=5)
    await state.look()
    assert counted("ingest_jobs", state="queued") == 1


async def test_an_adapter_that_gets_a_label_has_its_aliases_at_the_next_count(
    registry: Registry, counted: Counted, database_url: str, make_adapter: AdapterMaker
) -> None:
    await registry.register("bot", make_adapter("bot"))
    database, labels = Database(database_url), LabelLimit(1)
    state = RegistryGauges(database, labels, counted.collectors)
    for _ in range(2):
        await state.look()
    assert counted("alias_version", adapter="bot", alias="default") is None
    labels.of("bot")
    await state.look()
    assert counted("alias_version", adapter="bot", alias="default") == 1
    await database.close()
