"""The Python client, blocking and async, against a running registry on both databases."""

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from adaptry.client import (
    AdaptryError,
    ApiError,
    AsyncClient,
    Client,
    Conflict,
    InvalidReference,
    InvalidRequest,
    JobFailed,
    NoAnswer,
    NotFound,
    Unavailable,
)
from adaptry.client.models import EventRead, JobRead
from registry.inspection.base_model import BaseModel
from tests.api.helpers import publish
from tests.support.faults.tcp_relay import relayed
from tests.support.servers.asgi_server import serving
from tests.support.servers.registry_in_loop import Registry, running_registry
from tests.support.servers.webhook_receiver import Receiver, receiving

AdapterMaker = Callable[..., Path]


class EitherClient:
    """Either client, called the same way: `await ask(lambda c: c.adapters.get("x"))`."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def __call__(self, call: Callable[[Any], Any]) -> Any:
        if isinstance(self.client, Client):
            return await asyncio.to_thread(call, self.client)
        return await call(self.client)

    async def all(self, call: Callable[[Any], Any]) -> list[Any]:
        if isinstance(self.client, Client):
            return await asyncio.to_thread(lambda: list(call(self.client)))
        return [item async for item in call(self.client)]

    async def chunks(self, call: Callable[[Any], Any]) -> bytes:
        if isinstance(self.client, Client):
            return await asyncio.to_thread(_joined, call, self.client)
        async with call(self.client) as chunks:
            return b"".join([chunk async for chunk in chunks])


def _joined(call: Callable[[Any], Any], client: Client) -> bytes:
    with call(client) as chunks:
        return b"".join(chunks)


def url_of(registry: Registry) -> str:
    return f"http://{registry.http.base_url.host}:{registry.http.base_url.port}"


@pytest.fixture
async def registry(
    database_url: str, tmp_path: Path, base_model: BaseModel
) -> AsyncIterator[Registry]:
    settings: dict[str, Any] = {"max_direct_bytes": 1000, "allowed_networks": ("127.0.0.1",)}
    async with running_registry(database_url, tmp_path, base_model, **settings) as running:
        yield running


@pytest.fixture(params=["sync", "async"])
async def ask(request: pytest.FixtureRequest, registry: Registry) -> AsyncIterator[EitherClient]:
    if request.param == "sync":
        with Client(url_of(registry)) as client:
            yield EitherClient(client)
    else:
        async with AsyncClient(url_of(registry)) as client:
            yield EitherClient(client)


async def publish_some(ask: EitherClient, make_adapter: AdapterMaker, count: int) -> None:
    """Versions 1 to `count` of `bot`."""
    for n in range(count):
        source = str(make_adapter(f"a{n}", seed=n))
        await ask(partial(_register, source))


def _register(source: str, client: Any) -> Any:
    return client.versions.register("bot", source)


def _import(archive: Any, on_bytes: Callable[[int], None], client: Any) -> Any:
    return client.transfer.import_archive(archive, dry_run=True, on_bytes=on_bytes)


async def test_a_version_is_registered_found_and_described(
    ask: EitherClient, make_adapter: AdapterMaker
) -> None:
    source = str(make_adapter("a"))
    first = await ask(
        lambda c: c.versions.register(
            "bot", source, description="no", tags=["a"], metadata={"x": 1}
        )
    )
    assert (first.is_new, first.version.reference, first.version.rank) == (True, "bot:1", 4)
    assert (first.version.tags, first.version.metadata) == (["a"], {"x": 1})
    again = await ask(lambda c: c.versions.register("bot", source))
    assert (again.is_new, again.version.reference) == (False, "bot:1")
    assert (await ask(lambda c: c.adapters.get("bot"))).description == "no"
    assert (await ask(lambda c: c.versions.resolve("bot@default"))).number == 1
    found = await ask.all(lambda c: c.versions.search(tags=["a"], states=["ready"], rank_max=4))
    assert [version.reference for version in found] == ["bot:1"]
    assert await ask.all(lambda c: c.versions.list("bot", target_modules=["v_proj"])) == []
    recorded = await ask(lambda c: c.versions.update("bot:1", add_tags=["b"], dataset="d"))
    assert (recorded.tags, recorded.dataset) == (["a", "b"], "d")
    recorded = await ask(lambda c: c.versions.update("bot:1", remove_tags=["a"], dataset=None))
    assert (recorded.tags, recorded.dataset) == (["b"], None)
    assert (await ask(lambda c: c.adapters.update("bot", owner="o"))).description == "no"
    assert [a.name for a in await ask.all(lambda c: c.adapters.list(owner="o"))] == ["bot"]
    assert await ask(lambda c: c.is_ready()) is False, "the registry alone has no /readyz"


async def test_lists_are_read_page_by_page(ask: EitherClient, make_adapter: AdapterMaker) -> None:
    await publish_some(ask, make_adapter, 5)
    numbers = [v.number for v in await ask.all(lambda c: c.versions.list("bot", page_size=2))]
    assert numbers == [1, 2, 3, 4, 5]
    events = await ask.all(lambda c: c.events.list(newest_first=True, page_size=3))
    assert [e.id for e in events] == sorted((e.id for e in events), reverse=True)
    assert len(events) > 5
    assert all(isinstance(event.at, datetime) and event.at.tzinfo for event in events)
    ours = await ask.all(lambda c: c.events.list(kinds=["version.registered"], adapter="bot"))
    assert len(ours) == 5
    hour = timedelta(hours=1)
    assert not await ask.all(lambda c: c.events.list(since=datetime.now(UTC) + hour))
    of_bot = await ask.all(lambda c: c.events.of_adapter("bot", page_size=2))
    assert [e.id for e in of_bot] == [e.id for e in reversed(events)]


async def test_files_are_pushed_with_their_progress(
    ask: EitherClient, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    elsewhere = make_adapter("a").rename(tmp_path / "elsewhere")
    sent: list[tuple[int, int]] = []
    jobs: list[JobRead] = []
    pushed = await ask(
        lambda c: c.versions.push(
            "bot",
            elsewhere,
            tags=["t"],
            metadata={"x": [1]},
            on_bytes=lambda done, total: sent.append((done, total)),
            on_job=jobs.append,
        )
    )
    size = sum(file.stat().st_size for file in elsewhere.iterdir())
    assert sent[-1] == (size, size)
    assert [job.state for job in jobs][-1] == "succeeded"
    assert (pushed.is_new, pushed.version.tags, pushed.version.metadata) == (
        True,
        ["t"],
        {"x": [1]},
    )
    again = await ask(lambda c: c.versions.push("bot", elsewhere))
    assert (again.is_new, again.version.reference) == (False, "bot:1")
    with pytest.raises(AdaptryError, match="there is no"):
        await ask(lambda c: c.versions.push("bot", tmp_path / "none"))


async def test_jobs_can_be_awaited_and_fail_with_their_code(
    ask: EitherClient, make_adapter: AdapterMaker
) -> None:
    source = str(make_adapter("large", rank=16))
    submitted = await ask(lambda c: c.versions.submit("bot", source))
    assert submitted.version is None
    job = await ask(lambda c: c.jobs.wait(submitted.job.id, look_seconds=0.01))
    assert (job.state, job.version, job.created) == ("succeeded", "bot:1", True)
    wrong = str(make_adapter("wrong", rank=17))
    with pytest.raises(JobFailed, match=r"\[rank_too_large\]$") as failed:
        await ask(lambda c: c.versions.register("bot", wrong))
    assert (failed.value.code, failed.value.job.state) == ("rank_too_large", "failed")
    failures = await ask.all(lambda c: c.jobs.list(state="failed", adapter="bot"))
    assert [job.id for job in failures] == [failed.value.job.id]
    with pytest.raises(Conflict) as refused:
        await ask(lambda c: c.jobs.cancel(failed.value.job.id))
    assert refused.value.code == "job_finished"
    verdict = await ask(lambda c: c.adapters.inspect(wrong))
    assert [problem.code for problem in verdict.problems] == ["rank_too_large"]


async def test_aliases_are_moved_split_and_rolled_back(
    ask: EitherClient, make_adapter: AdapterMaker
) -> None:
    await publish_some(ask, make_adapter, 2)
    moved = await ask(lambda c: c.aliases.set("bot", version=2, expected_version=1, reason="why"))
    assert (moved.version, moved.reason) == (2, "why")
    with pytest.raises(Conflict):
        await ask(lambda c: c.aliases.set("bot", version=2, expected_version=None))
    split = await ask(lambda c: c.aliases.set("bot", "canary", weights={1: 9, 2: 1}))
    assert {w.version: w.weight for w in split.weights} == {1: 9, 2: 1}
    aliases = await ask.all(lambda c: c.aliases.list("bot"))
    assert [alias.alias for alias in aliases] == ["canary", "default"]
    history = await ask.all(lambda c: c.aliases.history("bot", page_size=1))
    assert [alias.version for alias in history] == [2, 1]
    then = await ask(lambda c: c.aliases.get("bot", at=history[1].valid_from))
    assert then.version == 1
    assert (await ask(lambda c: c.aliases.roll_back("bot"))).version == 1
    assert await ask(lambda c: c.aliases.delete("bot", "canary")) is None
    with pytest.raises(NotFound):
        await ask(lambda c: c.aliases.get("bot", "canary"))
    with pytest.raises(Unavailable) as away:
        await ask(lambda c: c.aliases.set("bot", version=2, probe=True))
    assert away.value.code == "engine_unavailable"


async def test_versions_end(ask: EitherClient, make_adapter: AdapterMaker) -> None:
    await publish_some(ask, make_adapter, 3)
    assert (await ask(lambda c: c.versions.deprecate("bot:2"))).state == "deprecated"
    assert (await ask(lambda c: c.versions.restore("bot:2", reason="r"))).state == "ready"
    with pytest.raises(Conflict):
        await ask(lambda c: c.versions.retire("bot:1"))
    retired = await ask(lambda c: c.versions.retire("bot:1", move_aliases_to=2))
    assert retired.state == "retired"
    bad = await ask(lambda c: c.versions.quarantine("bot:3", "wrong", code="by_hand"))
    assert (bad.state, bad.state_code) == ("quarantined", "by_hand")
    assert (await ask(lambda c: c.versions.purge("bot:3"))).freed_bytes > 0
    done = await ask(lambda c: c.versions.collect_garbage(keep_last=0, rollback_window_days=0))
    assert (done.dry_run, [item.reference for item in done.purged]) == (True, ["bot:1"])


async def test_webhooks_are_added_changed_and_removed(ask: EitherClient) -> None:
    async with receiving() as receiver:
        assert isinstance(receiver, Receiver)
        added = await ask(lambda c: c.webhooks.add(receiver.url, kinds=["alias.moved"]))
        number = added.id
        assert added.secret.startswith("whsec_")
        assert (await ask(lambda c: c.webhooks.test(number))).state == "delivered"
    delivered = await ask.all(lambda c: c.webhooks.deliveries(number, state="delivered"))
    with pytest.raises(ApiError):
        await ask(lambda c: c.webhooks.retry(number, delivered[0].id + 1))
    changed = await ask(lambda c: c.webhooks.change(number, kinds=[], enabled=False))
    assert (changed.kinds, changed.enabled, changed.url) == ([], False, added.url)
    assert (await ask(lambda c: c.webhooks.rotate_secret(number))).secret != added.secret
    assert (await ask(lambda c: c.webhooks.get(number))).id == number
    assert [w.id for w in await ask.all(lambda c: c.webhooks.list())] == [number]
    await ask(lambda c: c.webhooks.remove(number))
    assert await ask.all(lambda c: c.webhooks.list()) == []


async def test_an_export_is_imported_again(
    ask: EitherClient, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    source = str(make_adapter("a"))
    await ask(lambda c: c.versions.register("bot", source))
    packed = await ask.chunks(lambda c: c.transfer.export(["bot"]))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert any("bot" in name for name in archive.getnames())
    (tmp_path / "export.tar").write_bytes(packed)
    sent: list[int] = []
    archives: list[Any] = [tmp_path / "export.tar", [packed[:100], packed[100:]]]
    for given in archives:
        report = await ask(partial(_import, given, sent.append))
        assert (report.dry_run, report.versions_unchanged) == (True, 1)
        assert sent[-1] == len(packed)
    with pytest.raises(NotFound):
        await ask.chunks(lambda c: c.transfer.export(["nobody"]))
    with pytest.raises(InvalidRequest, match=r"\[\w+\]$"):
        await ask(lambda c: c.transfer.import_archive([b"no tar"]))


async def some_events(client: Client | AsyncClient, count: int, **given: Any) -> list[EventRead]:
    if isinstance(client, Client):
        return await asyncio.to_thread(_some, client, count, given)
    stream = client.events.stream(**given)
    found = [await anext(stream) for _ in range(count)]
    await stream.aclose()
    return found


def _some(client: Client, count: int, given: dict[str, Any]) -> list[EventRead]:
    stream = client.events.stream(**given)
    found = [next(stream) for _ in range(count)]
    stream.close()
    return found


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_stream_resumes_where_its_connection_was_cut(
    kind: type[Client | AsyncClient],
    app: FastAPI,
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
) -> None:
    assert (await publish(client, "bot", make_adapter("a"))).status_code == 201
    async with serving(app) as url, relayed(url) as relay:
        following_client = kind(relay.url)
        wanted = {"adapter": "bot", "after": 0, "kinds": ["version.registered", "version.updated"]}
        following = asyncio.create_task(some_events(following_client, 4, **wanted))
        for n in range(3):
            await asyncio.sleep(0.3)
            relay.cut()
            await client.patch("/adapters/bot/versions/1", json={"dataset": f"d{n}"})
        events = await asyncio.wait_for(following, 30)
        kinds = [event.kind for event in events]
        assert kinds == ["version.registered", *["version.updated"] * 3]
        assert relay.opened >= 2
        closing = following_client.close()
        if closing is not None:
            await closing


async def test_a_stream_without_a_server_ends_immediately() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(NoAnswer):
        next(client.events.stream())
    async with AsyncClient("http://127.0.0.1:1") as waiting:
        with pytest.raises(NoAnswer):
            await anext(waiting.events.stream())


async def test_errors_tell_status_code_and_what_is_wrong(ask: EitherClient) -> None:
    with pytest.raises(NotFound) as missing:
        await ask(lambda c: c.adapters.get("nobody"))
    assert (missing.value.status, missing.value.code) == (404, "unknown_adapter")
    assert str(missing.value).endswith("[unknown_adapter]")
    with pytest.raises(InvalidRequest) as wrong:
        await ask(lambda c: c.versions.get("bot:9999999999"))
    assert wrong.value.problem["errors"]
    with pytest.raises(InvalidReference):
        await ask(lambda c: c.versions.get("bot"))
    with pytest.raises(NotFound):
        await ask(lambda c: c.adapters.get("../jobs"))
    with pytest.raises(ApiError) as none:
        await ask(lambda c: c.cache.show())
    assert none.value.status == 404, "the registry alone has no cache"


async def test_an_api_key_is_sent_with_every_request() -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(401, json={"error": {"message": "Unauthorized"}})

    transport = httpx.MockTransport(answer)
    with Client("http://x", api_key="k", transport=transport) as client:
        for call in (lambda: client.adapters.get("a"), lambda: next(client.events.stream())):
            with pytest.raises(ApiError, match=r"^Unauthorized \(HTTP 401\)$"):
                call()
    async with AsyncClient("http://x", transport=transport) as waiting:
        with pytest.raises(ApiError):
            await waiting.adapters.get("a")
    assert seen == ["Bearer k", "Bearer k", None]
