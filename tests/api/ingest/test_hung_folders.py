"""Folders to register from whose disk hangs: they keep no place, and no server from its end."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from registry.ingest import inspection_places
from registry.sources import local
from registry.sources.disks.reads import MAX_READS
from registry.sources.local import LocalSource
from registry.sources.quarantine import QuarantineWriter
from tests.support.servers.registry_in_loop import Registry, running_registry

AdapterMaker = Callable[..., Path]
Start = Callable[..., Any]


@pytest.fixture
def start(database_url: str, tmp_path: Path, base_model: Any) -> Start:
    return lambda **settings: running_registry(
        database_url, tmp_path, base_model, max_ingests=1, **settings
    )


class Disk:
    """Every file below a folder named `hung` waits until the disk `answers`."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.is_asked = threading.Event()
        self._open = local.open_regular

    def open_regular(self, file: Path, *arguments: Any) -> BinaryIO:
        if "hung" in file.parts:
            self.is_asked.set()
            assert self.answers.wait(60)
        return self._open(file, *arguments)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    subject = Disk()
    monkeypatch.setattr(local, "open_regular", subject.open_regular)
    monkeypatch.setattr("registry.sources.threads.HUNG_SECONDS", 0.2)
    yield subject
    subject.answers.set()


async def begin_hung(registry: Registry, disk: Disk, folder: Path) -> int:
    """A job in the middle of its read."""
    answer = await registry.http.post("/adapters/bot/versions?wait=0", json={"source": str(folder)})
    assert answer.status_code == 202, answer.text
    assert await asyncio.to_thread(disk.is_asked.wait, 20)
    return int(answer.json()["id"])


async def test_a_job_whose_folder_hangs_gives_its_place_to_the_next(
    start: Start, make_adapter: AdapterMaker, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "STALLED_SECONDS", 0.3)
    async with start() as registry:
        number = await begin_hung(registry, disk, make_adapter("hung"))
        good = await registry.http.post(
            "/adapters/other/versions?wait=20", json={"source": str(make_adapter("b", seed=1))}
        )
        assert good.status_code == 201, good.text
        job = await registry.end_of(number)
        assert (job["state"], job["code"]) == ("failed", "source_timeout")
        await registry.no_leftovers()
        disk.answers.set()
        await asyncio.sleep(0.2)
        assert registry.leftovers() == [], "the read that went on has written nothing"
        await registry.keeps_one()


async def test_a_copy_that_moves_is_not_hung(
    start: Start, make_adapter: AdapterMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes several times as long as it may stand still."""
    monkeypatch.setattr(local, "STALLED_SECONDS", 1.0)
    monkeypatch.setattr(local, "CHUNK_BYTES", 1 + file_bytes(folder := make_adapter("a")) // 6)
    monkeypatch.setattr(QuarantineWriter, "count", slow(QuarantineWriter.count))
    async with start() as registry:
        answer = await registry.http.post(
            "/adapters/bot/versions?wait=30", json={"source": str(folder)}
        )
        assert answer.status_code == 201, answer.text


def file_bytes(folder: Path) -> int:
    return (folder / "adapter_model.safetensors").stat().st_size


def slow(count: Callable[..., None]) -> Callable[..., None]:
    def wait_and_count(*arguments: Any) -> None:
        threading.Event().wait(0.4)
        count(*arguments)

    return wait_and_count


async def test_a_job_whose_folder_hangs_can_be_cancelled(
    start: Start, make_adapter: AdapterMaker, disk: Disk
) -> None:
    async with start() as registry:
        number = await begin_hung(registry, disk, make_adapter("hung"))
        await registry.http.post(f"/jobs/{number}/cancel")
        assert (await registry.end_of(number))["state"] == "cancelled"


async def test_a_server_ends_while_a_folder_hangs(
    start: Start, make_adapter: AdapterMaker, disk: Disk
) -> None:
    """The next one has the job in its queue, and what hung writes nothing into its attempt."""
    async with start() as registry:
        number = await begin_hung(registry, disk, make_adapter("hung"))
        registry.stop_working()
        assert registry.working is not None
        await asyncio.wait({registry.working}, timeout=20)
        assert registry.working.done()
        assert (await registry.job(number))["state"] == "queued"
    async with start() as registry:
        await asyncio.sleep(0.3)
        disk.answers.set()
        assert (await registry.end_of(number))["state"] == "succeeded"
        await registry.no_leftovers()


async def test_an_inspection_of_a_folder_that_hangs_is_answered(
    start: Start, make_adapter: AdapterMaker, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "STALLED_SECONDS", 0.3)
    async with start() as registry:
        answer = await registry.http.post("/inspect", json={"source": str(make_adapter("hung"))})
        assert (answer.status_code, answer.json()["code"]) == (504, "source_timeout")
        await registry.no_leftovers()


def test_a_process_does_not_wait_for_a_read_that_hangs() -> None:
    program = (
        "import threading; from registry.sources.disks.reads import ReadThreads, Share\n"
        "begun = threading.Event()\n"
        "def hang(): begun.set(); threading.Event().wait()\n"
        "ReadThreads(1).submit(Share('/', '/srv'), hang); assert begun.wait(20); print('ended')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (0, b"ended\n"), ended.stderr.decode()


class HungLooks:
    """Looks at folders named `hung` wait until the disk `answers`."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.number = 0
        self._look = LocalSource.size_bytes

    def size_bytes(self, source: LocalSource) -> int:
        if "hung" in source._folder.parts:
            self.number += 1
            assert self.answers.wait(60)
        return self._look(source)

    async def begin(self, looks: list[Awaitable[Any]], number: int) -> "list[asyncio.Task[Any]]":
        """Of more looks than there are threads, so many hang, and the others wait."""
        begun = [asyncio.ensure_future(look) for look in looks]
        async with asyncio.timeout(20):
            while self.number < number:
                await asyncio.sleep(0.02)
        return begun


@pytest.fixture
def hung_looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[HungLooks]:
    subject = HungLooks()

    def size_bytes(source: LocalSource) -> int:
        return subject.size_bytes(source)

    monkeypatch.setattr(LocalSource, "size_bytes", size_bytes)
    yield subject
    subject.answers.set()


async def test_a_disk_that_hangs_holds_up_no_folder_of_another(
    start: Start,
    make_adapter: AdapterMaker,
    hung_looks: HungLooks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same root holds both. Those of one disk take all of its threads, and no more."""
    good, hung = make_adapter("b", seed=1), [make_adapter(f"a{n}/hung") for n in range(20)]
    write_mounts(tmp_path, good, monkeypatch)
    async with start() as registry:
        looks = [registry.register(f"bot-{n}", folder) for n, folder in enumerate(hung)]
        begun = await hung_looks.begin(looks, MAX_READS)
        async with asyncio.timeout(20):
            assert (await registry.register("other", good)).status_code == 201
        hung_looks.answers.set()
        assert {answer.status_code for answer in await asyncio.gather(*begun)} == {201}


def write_mounts(folder: Path, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel's table shows a disk that is mounted there."""
    table = folder / "mountinfo"
    table.write_text(f"21 1 8:1 / / rw - ext4 /dev/a rw\n22 21 0:5 / {mount} rw - nfs4 nas:/ rw\n")
    monkeypatch.setattr("registry.sources.disks.mounts.TABLE", table)


async def test_a_folder_that_hangs_holds_up_no_other_of_its_disk(
    start: Start, make_adapter: AdapterMaker, hung_looks: HungLooks, tmp_path: Path
) -> None:
    """As where a link in it leads to a disk that hangs."""
    hung, good = make_adapter("a").rename(tmp_path / "sources/hung"), make_adapter("b", seed=1)
    async with start() as registry:
        looks = [registry.register(f"bot-{n}", hung) for n in range(2 * MAX_READS)]
        begun = await hung_looks.begin(looks, MAX_READS // 2)
        async with asyncio.timeout(20):
            assert (await registry.register("other", good)).status_code == 201
        hung_looks.answers.set()
        await asyncio.gather(*begun)


async def test_a_tenant_whose_folders_hang_holds_up_no_other(
    start: Start, make_adapter: AdapterMaker, hung_looks: HungLooks, tmp_path: Path
) -> None:
    sources = tmp_path / "sources"
    for tenant in ("acme", "globex"):
        (sources / tenant).mkdir(parents=True)
    hung = make_adapter("a").rename(sources / "acme/hung")
    good = make_adapter("b", seed=1).rename(sources / "globex/good")
    async with start() as registry:
        store = registry.service.store
        found = await store.local(str(hung), within="acme")
        looks = [found.total_bytes() for _ in range(2 * MAX_READS)]
        begun = await hung_looks.begin(looks, MAX_READS // 2)
        async with asyncio.timeout(20):
            assert await (await store.local(str(good), within="globex")).total_bytes() > 0
            assert await (await store.local("good", within="globex")).total_bytes() > 0
        hung_looks.answers.set()
        await asyncio.gather(*begun)


async def test_inspections_that_hang_leave_places_to_those_of_other_folders(
    start: Start, make_adapter: AdapterMaker, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four places one folder has two; further inspections of it wait for these."""
    monkeypatch.setattr(inspection_places, "WAIT_SECONDS", 0.3)
    hung, good = str(make_adapter("hung")), str(make_adapter("b", seed=1))
    async with start() as registry:

        async def inspect(source: str) -> tuple[int, str]:
            answer = await registry.http.post("/inspect", json={"source": source})
            return answer.status_code, answer.json().get("code", "")

        begun = [asyncio.create_task(inspect(hung)) for _ in range(6)]
        assert await asyncio.to_thread(disk.is_asked.wait, 20)
        async with asyncio.timeout(20):
            assert await inspect(good) == (200, "")
            while len(refused := [task for task in begun if task.done()]) < 4:
                await asyncio.sleep(0.02)
        assert [task.result() for task in refused] == [(429, "too_many_inspections")] * 4
        disk.answers.set()
        assert sorted(await asyncio.gather(*begun))[:2] == [(200, "")] * 2
        await registry.no_leftovers()
