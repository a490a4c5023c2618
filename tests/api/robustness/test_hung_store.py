"""A store whose disk hangs: what needs it is refused in time, and nobody else waits."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from adaptry.cli import main
from adaptry.terminal.output import size
from registry.errors import StoreUnavailable
from registry.lifecycle.garbage_collector import ORPHANS_AFTER_SECONDS
from registry.sources.disks.store_threads import STEPS, WORK, StoreThreads
from tests.support.servers.registry_in_loop import Json, Registry, running_registry
from tests.support.store_calls import StoreCalls, store_calls

AdapterMaker = Callable[..., Path]

MANY = 40  # more than the threads that the database and all else share


@pytest.fixture
async def registry(database_url: str, tmp_path: Path, base_model: Any) -> AsyncIterator[Registry]:
    async with running_registry(database_url, tmp_path, base_model) as running:
        yield running


async def retired(registry: Registry, make_adapter: AdapterMaker, count: int) -> None:
    """Versions bot:1 to bot:`count`, all but the first of which are retired."""
    for number in range(1, count + 1):
        answer = await registry.register("bot", make_adapter(f"bot{number}", seed=number))
        assert answer.status_code == 201, answer.text
        if number > 1:
            await step(registry, number, "retire")


async def step(registry: Registry, number: int, what: str) -> httpx.Response:
    return await registry.http.post(f"/adapters/bot/versions/{number}/{what}", json={})


async def version(registry: Registry, number: int) -> Json:
    found: Json = (await registry.http.get(f"/adapters/bot/versions/{number}")).json()
    return found


async def state(registry: Registry, number: int) -> str:
    return str((await version(registry, number))["state"])


async def goes_on(registry: Registry) -> None:
    """Reads and changes that need no file, one after the other."""
    async with asyncio.timeout(20):
        for number in range(10):
            tags = {"tags": [f"n{number}"]}
            changed = await registry.http.patch("/adapters/bot/versions/1", json=tags)
            assert changed.status_code == 200, changed.text
            assert (await registry.http.get("/adapters/bot")).status_code == 200


@asynccontextmanager
async def hung_store(
    registry: Registry, which: Callable[[str], bool] = lambda event: True
) -> AsyncIterator[StoreCalls]:
    """During the block, calls of these events wait."""
    with store_calls(registry.store) as calls:
        calls.hang(which)
        yield calls


async def hung(calls: StoreCalls) -> None:
    """One call waits."""
    assert await asyncio.to_thread(calls.hung.acquire, True, 20)


async def collect(registry: Registry) -> httpx.Response:
    rules = {"dry_run": False, "keep_last": 0, "rollback_window_days": 0}
    return await registry.http.post("/gc", json=rules)


async def upload(
    registry: Registry, name: str, folder: Path, wait: float | None = None
) -> httpx.Response:
    files = [("file", (file.name, file.read_bytes())) for file in folder.iterdir()]
    query = "" if wait is None else f"?wait={wait}"
    return await registry.http.post(f"/adapters/{name}/versions{query}", files=files)


async def test_no_file_of_the_store_is_touched_in_the_thread_of_the_event_loop(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    """Whatever is asked: each of these calls could hang."""
    with store_calls(registry.store) as calls:
        await retired(registry, make_adapter, 4)
        uploaded = await upload(registry, "up", make_adapter("up", seed=10))
        assert uploaded.status_code == 201, uploaded.text
        queued = await registry.http.post(
            "/adapters/job/versions?wait=0", json={"source": str(make_adapter("job", seed=11))}
        )
        assert (await registry.finished(queued))["state"] == "succeeded"
        again = await registry.register("bot", make_adapter("again", seed=1))
        assert again.status_code == 200, again.text
        assert (await step(registry, 2, "purge")).json()["freed_bytes"] > 0
        assert (await step(registry, 3, "restore")).status_code == 200
        assert (await step(registry, 3, "recheck")).status_code == 200
        await step(registry, 3, "retire")
        await asyncio.to_thread(make_orphan, registry.store)
        collected = (await collect(registry)).json()
        assert len(collected["orphans"]) == 1
        assert len(collected["purged"]) == 2
        assert (await registry.http.get("/adapters/bot/versions/1/files")).status_code == 200
        exported = await registry.http.get("/export")
        assert exported.status_code == 200
        imported = await registry.http.post("/import", content=exported.content)
        assert imported.status_code == 200, imported.text
        assert calls.in_threads > 100
        assert calls.in_loop == []


def make_orphan(store: Path) -> None:
    """Files without a row, older than any registration."""
    folder = store / "adapters/ee" / ("e" * 64)
    folder.mkdir(parents=True)
    long_ago = time.time() - ORPHANS_AFTER_SECONDS - 1
    os.utime(folder, (long_ago, long_ago))


async def test_a_purge_beside_a_store_that_hangs_changes_nothing_and_holds_up_nobody(
    registry: Registry, make_adapter: AdapterMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await retired(registry, make_adapter, 2)
    await registry.no_leftovers()
    async with hung_store(registry) as calls:
        purges = [asyncio.create_task(step(registry, 2, "purge")) for _ in range(MANY)]
        await hung(calls)
        await goes_on(registry)
        assert not any(purge.done() for purge in purges)
        with monkeypatch.context() as patch:
            patch.setattr(STEPS, "seconds", 0.3)
            refused = await step(registry, 2, "purge")
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert await state(registry, 2) == "retired"
    assert {answer.status_code for answer in await asyncio.gather(*purges)} == {200}
    assert len(registry.kept()) == 1


async def test_what_the_store_does_not_remove_in_time_is_purged_and_removed_later(
    registry: Registry, make_adapter: AdapterMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await retired(registry, make_adapter, 2)
    await registry.no_leftovers()
    monkeypatch.setattr(STEPS, "seconds", 3.0)
    async with hung_store(registry, lambda event: event == "os.rename") as calls:
        purging = asyncio.create_task(step(registry, 2, "purge"))
        await hung(calls)
        await goes_on(registry)
        answer = await purging
        purged = answer.json()
        assert (answer.status_code, purged["freed_bytes"]) == (200, 0)
        assert purged["pending_bytes"] == purged["version"]["size_bytes"]
        assert await state(registry, 2) == "purged"
        assert len(registry.kept()) == 2
    await registry.keeps_one()
    again = (await step(registry, 2, "purge")).json()
    assert (again["freed_bytes"], again["pending_bytes"]) == (0, 0)
    await registry.no_leftovers()


async def test_the_commands_say_what_the_store_has_yet_to_delete(
    registry: Registry,
    make_adapter: AdapterMaker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await retired(registry, make_adapter, 3)
    await registry.no_leftovers()
    monkeypatch.setattr(STEPS, "seconds", 1.0)
    later = f"{size((await version(registry, 2))['size_bytes'])} more once the store has deleted"

    async def run(*arguments: str) -> str:
        url = registry.http.base_url
        command = ["adapter", *arguments, "--server", f"http://{url.host}:{url.port}"]
        assert await asyncio.to_thread(main, command) == 0
        return capsys.readouterr().out

    async with hung_store(registry, lambda event: event == "os.rename"):
        assert later in (purged := await run("purge", "bot:2"))
        assert purged.startswith("bot:2 is purged, 0 B freed\n")
        everything = ("--apply", "--keep-last", "0", "--rollback-days", "0")
        assert later in (collected := await run("gc", *everything))
        assert "1 version and 0 orphans deleted, 0 B\n" in collected
    await registry.keeps_one()
    assert "more" not in await run("purge", "bot:2")


@pytest.mark.parametrize(
    "ask",
    [
        collect,
        lambda registry: step(registry, 3, "restore"),
        lambda registry: registry.http.get("/adapters/bot/versions/1/files"),
        lambda registry: registry.http.get("/export"),
        lambda registry: registry.http.post("/import", content=b"x" * 1024),
    ],
    ids=["gc", "restore", "files", "export", "import"],
)
async def test_requests_that_need_a_store_that_hangs_hold_up_nobody(
    registry: Registry,
    make_adapter: AdapterMaker,
    ask: Callable[[Registry], Awaitable[httpx.Response]],
) -> None:
    """More of them than there are threads."""
    await retired(registry, make_adapter, 3)
    async with hung_store(registry) as calls:
        begun = [asyncio.ensure_future(ask(registry)) for _ in range(MANY)]
        await hung(calls)
        await goes_on(registry)
        assert not any(each.done() for each in begun)
    await asyncio.gather(*begun)


async def test_a_cleanup_beside_a_store_that_hangs_holds_up_nobody(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    """Of an upload that was left, and of files without a row."""
    await retired(registry, make_adapter, 1)
    (registry.store / "quarantine/left/upload").mkdir(parents=True)
    for digest in ("e" * 64, "f" * 64):
        registry.service.store._pending.lock_shared(digest).abandon()
    async with hung_store(registry) as calls:
        registry.ingest._workers._cleanup_at = 0.0
        registry.ingest._workers.wake()
        await hung(calls)
        await goes_on(registry)
    await registry.no_leftovers()


@pytest.mark.parametrize("is_small", [True, False], ids=["small", "large"])
async def test_an_upload_whose_store_hangs_while_its_files_are_moved_is_tried_again(
    database_url: str,
    tmp_path: Path,
    base_model: Any,
    make_adapter: AdapterMaker,
    monkeypatch: pytest.MonkeyPatch,
    is_small: bool,
) -> None:
    monkeypatch.setattr("registry.sources.threads.STOP_SECONDS", 0.2)
    settings: Json = {} if is_small else {"ingest_timeout_seconds": 1.0, "max_direct_bytes": 1}
    async with running_registry(database_url, tmp_path, base_model, **settings) as registry:
        with monkeypatch.context() as patch:
            patch.setattr(WORK, "seconds", 1.0)
            async with hung_store(registry, lambda event: event == "os.link") as calls:
                answer = await upload(registry, "bot", make_adapter("bot"), wait=0)
                await hung(calls)
                number = answer.json()["id"]
                put_off = await registry.until(number, lambda job: job["code"] is not None)
        assert (put_off["state"], put_off["code"]) == ("queued", "store_unavailable")
        ended = await registry.end_of(number)
        assert ended["state"] == "succeeded", str(ended)
        await registry.no_leftovers()


async def test_what_comes_too_late_is_undone() -> None:
    """A lock that nobody waits for any more must not be held."""
    threads, go_on = StoreThreads("test", 0.1), threading.Event()
    undone = threading.Semaphore(0)

    def work() -> str:
        assert go_on.wait(20)
        return "a lock"

    def undo(result: str) -> None:
        assert result == "a lock"
        undone.release()

    with pytest.raises(StoreUnavailable):
        await threads.run(work, undo)
    cancelled = asyncio.create_task(WORK.run(work, undo))
    await asyncio.sleep(0.1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert not undone.acquire(blocking=False)
    go_on.set()
    for _ in range(2):
        assert await asyncio.to_thread(undone.acquire, True, 20)


async def test_what_has_to_be_done_is_done_late() -> None:
    threads, go_on, done = StoreThreads("test", 0.1), threading.Event(), threading.Event()

    def work() -> str:
        assert go_on.wait(20)
        done.set()
        return "done"

    assert await threads.finish(work) is None
    go_on.set()
    assert await asyncio.to_thread(done.wait, 20)
    assert await threads.finish(lambda: "at once") == "at once"
