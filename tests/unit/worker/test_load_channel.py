"""Load channel: error texts of any length arrive, and a channel that closes ends its engine."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from vllm.exceptions import LoRAAdapterNotFoundError

from engine.errors import AdapterLoadFailed, EngineUnavailable
from engine.load_threads import ThreadsStalled
from engine.types import LoadFailure
from engine.vllm.backend import VllmBackend
from engine.vllm.load_channel import LoadChannel, open_channel
from engine.vllm.process import VllmProcess
from engine.worker.load_channel import LoadListener, classify_failure
from engine.worker.safetensors_file import Unreadable
from tests.support.cache.controller_harness import A, B, until


class Failing:
    """A staging area where each load fails with the next of these errors."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def start(self, number: int, manager: Any, request: Any) -> "Future[Any]":
        load: Future[Any] = Future()
        load.set_exception(self.errors.pop(0))
        return load

    def discard(self, number: int) -> None:
        pass


@asynccontextmanager
async def connected(staging: Any) -> AsyncIterator[tuple[LoadChannel, LoadListener]]:
    """Both ends, as in a server with one worker."""
    listeners: list[LoadListener] = []
    manager: Any = None

    async def connect(path: str) -> None:
        listeners.append(await asyncio.to_thread(LoadListener, path, staging, manager))

    async with open_channel(connect, ranks=1) as channel:
        yield channel, listeners[0]


def process_over(channel: LoadChannel, engine: Any) -> VllmProcess:
    return VllmProcess(engine, VllmBackend(engine, channel), set(), AsyncExitStack())


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that answers no request by itself."""
    monkeypatch.setattr(LoadListener, "_handle", lambda *_: None)


@pytest.mark.parametrize("text", ["x" * 70_000, "\N{GRINNING FACE}" * 70_000])
async def test_a_long_error_text_fails_its_load_only(text: str) -> None:
    staging = Failing(ValueError(text), ValueError("short"))
    async with asyncio.timeout(30), connected(staging) as (channel, _):
        with pytest.raises(AdapterLoadFailed, match=r"ValueError: .*70000|\(700\d\d characters\)"):
            await channel.load(A)
        with pytest.raises(AdapterLoadFailed, match="short"):
            await channel.load(B)
        assert channel.lost is None


@pytest.mark.usefixtures("silent")
async def test_a_text_that_is_longer_than_a_line_of_a_stream_is_read_whole() -> None:
    """Even if a worker did not shorten it."""
    async with asyncio.timeout(30), connected(Failing()) as (channel, listener):
        loading = asyncio.create_task(channel.load(A))
        await asyncio.sleep(0)
        reply = f'{{"load": 1, "error": "{"x" * 70_000}", "failure": "adapter"}}\n'
        await asyncio.to_thread(listener._socket.sendall, reply.encode())
        with pytest.raises(AdapterLoadFailed, match=r"x{70000}"):
            await loading
        assert channel.lost is None


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("garbage", [b"", b"no JSON\n", b"x" * 2_000_000])
async def test_an_engine_whose_load_channel_is_lost_counts_as_dead(garbage: bytes) -> None:
    engine = SimpleNamespace(errored=False)
    async with asyncio.timeout(30), connected(Failing()) as (channel, listener):
        process = process_over(channel, engine)
        death = asyncio.create_task(process.wait_for_death())
        await asyncio.sleep(0.01)
        assert not process.is_dead
        if garbage:
            sending = asyncio.to_thread(listener._socket.sendall, garbage)
            await asyncio.gather(sending, return_exceptions=True)
        else:
            listener._socket.shutdown(2)
        await until(lambda: process.is_dead)
        assert "worker" in await death
        with pytest.raises(EngineUnavailable):
            await channel.load(A)


@pytest.mark.usefixtures("silent")
async def test_a_load_under_way_fails_when_the_channel_closes() -> None:
    async with asyncio.timeout(30), connected(Failing()) as (channel, listener):
        loading = asyncio.create_task(channel.load(A))
        await asyncio.sleep(0.05)
        listener._socket.shutdown(2)
        with pytest.raises(EngineUnavailable, match="disconnected"):
            await loading


async def test_of_a_worker_that_died_vllm_gives_the_cause() -> None:
    engine = SimpleNamespace(errored=False, dead_error=RuntimeError("out of memory"))
    async with asyncio.timeout(30), connected(Failing()) as (channel, listener):
        process = process_over(channel, engine)
        listener._socket.shutdown(2)
        await until(lambda: process.is_dead)
        engine.errored = True
        assert await process.wait_for_death() == "out of memory"


async def test_a_channel_that_the_server_closes_is_not_lost() -> None:
    async with asyncio.timeout(30), connected(Failing()) as (channel, _):
        pass
    assert channel.lost is None


class Pending(Failing):
    """A staging area whose loads have not ended yet."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[Future[Any]] = []
        self.discarded: list[int] = []

    def start(self, number: int, manager: Any, request: Any) -> "Future[Any]":
        self.loads.append(Future())
        return self.loads[-1]

    def discard(self, number: int) -> None:
        self.discarded.append(number)


@pytest.mark.parametrize("is_good", [False, True])
async def test_a_load_that_ends_after_the_channel_is_told_to_nobody(
    caplog: pytest.LogCaptureFixture, *, is_good: bool
) -> None:
    staging = Pending()
    async with asyncio.timeout(30), connected(staging) as (channel, listener):
        loading = asyncio.create_task(channel.load(A))
        await until(lambda: bool(staging.loads))
        listener._socket.shutdown(2)
        with pytest.raises(EngineUnavailable):
            await loading
        await until(lambda: listener._socket.fileno() == -1)
    (load,) = staging.loads
    if is_good:
        load.set_result(SimpleNamespace(loras={}))
    else:
        load.set_exception(MemoryError())
    assert not [record for record in caplog.records if record.exc_info], "a traceback for nobody"


async def test_of_a_load_that_vllm_had_to_place_nothing_is_certain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    staging = Pending()
    async with asyncio.timeout(30), connected(staging) as (channel, _):
        loading = asyncio.create_task(channel.load(A))
        await until(lambda: bool(staging.loads))
        staging.loads[0].set_result(SimpleNamespace(loras={}))
        _, loaded = await loading
        assert (loaded.host_bytes, loaded.guaranteed, loaded.fell_back) == (0, False, True)
        unstarted = asyncio.create_task(channel.load(B))
        await until(lambda: len(staging.loads) == 2)
        unstarted.cancel()
        staging.loads[1].cancel()
        await until(lambda: staging.discarded == [2])
    assert not [record for record in caplog.records if record.exc_info], "it was discarded"


async def test_a_cancelled_load_is_discarded_and_its_late_answer_dropped() -> None:
    staging = Pending()
    async with asyncio.timeout(30), connected(staging) as (channel, _):
        loading = asyncio.create_task(channel.load(A))
        await until(lambda: bool(staging.loads))
        loading.cancel()
        await until(lambda: staging.discarded == [1])
        staging.loads[0].set_result(SimpleNamespace(loras={}))
        again = asyncio.create_task(channel.load(A))
        await until(lambda: len(staging.loads) == 2)
        assert not again.done()
        staging.loads[1].set_exception(ValueError("why"))
        with pytest.raises(AdapterLoadFailed, match="why"):
            await again


CAUSES: list[tuple[BaseException, LoadFailure]] = [
    (ThreadsStalled("hangs"), LoadFailure.STALLED),
    (MemoryError(), LoadFailure.MEMORY),
    (torch.OutOfMemoryError("CUDA out of memory"), LoadFailure.MEMORY),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1"), LoadFailure.MEMORY),
    (RuntimeError("CUDA error: out of memory"), LoadFailure.MEMORY),
    (RuntimeError("can't start new thread"), LoadFailure.THREADS),
    (Unreadable("cut off"), LoadFailure.FILES),
    (SafetensorError("cut off, for vLLM"), LoadFailure.FILES),
    (FileNotFoundError(2, "gone"), LoadFailure.MISSING),
    (NotADirectoryError(20, "gone"), LoadFailure.MISSING),
    (LoRAAdapterNotFoundError("a", "/a"), LoadFailure.MISSING),
    (OSError(5, "Input/output error"), LoadFailure.IO),
    (torch.AcceleratorError("an illegal memory access"), LoadFailure.DEVICE),
    (RuntimeError("CUDA driver error: unknown error"), LoadFailure.DEVICE),
    (RuntimeError("HIP error: invalid"), LoadFailure.DEVICE),
    (ValueError("cuda is in its name"), LoadFailure.ADAPTER),
    (RuntimeError("shapes differ"), LoadFailure.ENGINE),
    (ZeroDivisionError("out of memory is in its text"), LoadFailure.ENGINE),
]


@pytest.mark.parametrize(("error", "failure"), CAUSES, ids=str)
def test_each_failure_has_its_cause(error: BaseException, failure: LoadFailure) -> None:
    assert classify_failure(error) is failure
