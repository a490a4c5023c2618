"""Hung reads: a load that timed out takes no thread from others, and only so many may hang."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.artifact_files import StoredFiles
from engine.cache.loader import Loader
from engine.errors import AdapterLoadFailed, LoadsStalled, engine_codes
from engine.fake_backend import UncheckedFiles
from engine.load_threads import MAX_ABANDONED
from engine.types import AdapterVersion, LoadFailure
from engine.vllm.backend import VllmBackend
from engine.vllm.load_channel import open_channel
from engine.worker.load_channel import LoadListener
from engine.worker.lora_managers import Staging
from engine.worker.safetensors_file import CONFIG, WEIGHTS, open_adapter
from tests.support.cache.controller_harness import adapter, until

HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


def _read(manager: Any, request: Any) -> Any:
    with open_adapter(request.lora_path):
        return SimpleNamespace(loras={})


class Disk:
    """Folders of adapters: `hang` ones block in `open` until `answer`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fifos: list[Path] = []

    def hang(self, number: int) -> AdapterVersion:
        folder = self._folder(number)
        os.mkfifo(folder / CONFIG)
        self.fifos.append(folder / CONFIG)
        return replace(adapter(number), path=str(folder))

    def work(self, number: int) -> AdapterVersion:
        folder = self._folder(number)
        (folder / CONFIG).write_text("{}")
        length = len(HEADER).to_bytes(8, "little")
        (folder / WEIGHTS).write_bytes(length + HEADER + b"1234")
        return replace(adapter(number), path=str(folder))

    def _folder(self, number: int) -> Path:
        folder = self.root / str(number)
        folder.mkdir()
        return folder

    def answer(self) -> None:
        for fifo in self.fifos:
            try:
                descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # no thread reads it
                continue
            os.write(descriptor, b"{}")
            os.close(descriptor)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    subject = Disk(tmp_path)
    yield subject
    subject.answer()


@asynccontextmanager
async def worker() -> AsyncIterator[tuple[VllmBackend, Staging]]:
    """A real channel and a real staging area; only what vLLM makes of the file is replaced."""
    staging = Staging()
    staging.reader.read = _read  # type: ignore[method-assign]  # needs no model
    manager: Any = SimpleNamespace(_adapter_manager=SimpleNamespace(adaptry_slot_writer=None))

    async def connect(path: str) -> None:
        await asyncio.to_thread(LoadListener, path, staging, manager)

    engine: Any = None
    async with asyncio.timeout(60), open_channel(connect, ranks=1) as channel:
        yield VllmBackend(engine, channel), staging


def loader(backend: VllmBackend, seconds: float) -> Loader:
    return Loader(backend, UncheckedFiles(), timeout_seconds=seconds, pauses=())


async def time_out(backend: VllmBackend, version: AdapterVersion) -> None:
    with pytest.raises(AdapterLoadFailed) as error:
        await loader(backend, 0.3).load(version)
    assert error.value.failure is LoadFailure.TIMEOUT


async def test_others_are_loaded_however_many_reads_hang(disk: Disk) -> None:
    async with worker() as (backend, staging):
        for number in range(1, MAX_ABANDONED):
            await time_out(backend, disk.hang(number))
        await until(lambda: staging.threads.abandoned == MAX_ABANDONED - 1)
        many = [loader(backend, 20).load(disk.work(100 + number)) for number in range(10)]
        assert len(await asyncio.gather(*many)) == 10


async def test_beyond_a_number_of_hung_reads_a_load_is_refused(disk: Disk) -> None:
    async with worker() as (backend, staging):
        for number in range(1, MAX_ABANDONED + 1):
            await time_out(backend, disk.hang(number))
        await until(lambda: staging.threads.abandoned == MAX_ABANDONED)
        works = disk.work(100)
        with pytest.raises(LoadsStalled, match="8 reads of other files hang") as refused:
            await loader(backend, 20).load(works)
        assert refused.value.code == "loads_stalled"
        assert refused.value.code in engine_codes()
        assert refused.value.retry_after_seconds
        disk.answer()
        await until(lambda: staging.threads.abandoned == 0)
        await loader(backend, 20).load(works)


async def test_an_adapter_whose_read_hangs_takes_one_thread(disk: Disk) -> None:
    """However often it is requested."""
    async with worker() as (backend, staging):
        hung = disk.hang(1)
        await time_out(backend, hung)
        await until(lambda: staging.threads.abandoned == 1)
        for _ in range(3):
            with pytest.raises(LoadsStalled, match="earlier read of these files"):
                await loader(backend, 20).load(hung)
        assert staging.threads.abandoned == 1


async def test_a_hung_check_of_the_files_takes_no_thread_from_others(disk: Disk) -> None:
    """In the server, where the files are checked before the worker reads them."""
    files = StoredFiles()
    hung = disk.hang(1)
    for _ in range(2):
        with pytest.raises((TimeoutError, LoadsStalled)):
            async with asyncio.timeout(0.3):
                await files.verify(hung)
    with pytest.raises(LoadsStalled, match="earlier read of these files"):
        await files.verify(hung)
    with pytest.raises(AdapterLoadFailed) as changed:
        await files.verify(disk.work(2))
    assert changed.value.failure is LoadFailure.FILES
