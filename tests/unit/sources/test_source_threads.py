"""Threads end when they are asked to, and what must not be cut short is not."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from registry.errors import SourceTooLarge
from registry.sources.base import FetchLimits, Progress, Stopped, UncountedProgress
from registry.sources.local import LocalSource
from registry.sources.quarantine import QuarantineWriter
from registry.sources.threads import run_in_thread, run_on_own_loop, run_to_completion


async def test_a_thread_answers_or_raises() -> None:
    def fail() -> None:
        raise ValueError("no")

    assert await run_in_thread(lambda: 1, lambda: None) == 1
    with pytest.raises(ValueError, match="no"):
        await run_in_thread(fail, lambda: None)


async def test_who_cancels_may_clear_away_what_the_thread_wrote_to() -> None:
    stop, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        stop.wait(10)
        time.sleep(0.1)
        ended.set()
        raise Stopped

    task = asyncio.create_task(run_in_thread(work, stop.set))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_loop_of_its_own_answers_raises_and_is_cancelled() -> None:
    ours = threading.get_ident()

    async def where() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    async def fail() -> None:
        raise ValueError("no")

    assert await run_on_own_loop(where) != ours
    with pytest.raises(ValueError, match="no"):
        await run_on_own_loop(fail)
    begun, cleaned = threading.Event(), threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.set()

    task = asyncio.create_task(run_on_own_loop(hang))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert cleaned.is_set()


async def test_what_goes_to_its_end_answers_before_the_cancellation_is_felt() -> None:
    begun, done = asyncio.Event(), asyncio.Event()
    answers: list[int] = []

    async def commit() -> int:
        begun.set()
        await done.wait()
        return 7

    async def work() -> None:
        answers.append(await run_to_completion(commit()))
        await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    done.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert answers == [7]


async def test_what_goes_to_its_end_raises_what_it_raises() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await run_to_completion(fail())


async def test_a_time_limit_around_is_still_a_time_limit() -> None:
    """Not a cancellation of unknown cause."""

    async def work() -> None:
        await run_to_completion(asyncio.sleep(0.1))
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await work()


async def test_a_cancelled_copy_stops(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes(b"{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"w" * 40_000_000)
    into = tmp_path / "into"
    into.mkdir()
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Progress):
        def advance(self, more_bytes: int) -> None:
            super().advance(more_bytes)
            begun.set()
            go_on.wait(10)

    progress = Slow()
    fetch = LocalSource(tmp_path).fetch(into, FetchLimits(10**9), progress)
    task = asyncio.create_task(fetch)
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0.05)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert progress.bytes_done < 10_000_000


def test_a_file_counts_only_when_it_is_whole(tmp_path: Path) -> None:
    writer = QuarantineWriter(tmp_path, FetchLimits(10), Progress())
    with writer.open("a") as file:
        file.write(b"12345")
    with pytest.raises(SourceTooLarge), writer.open("b") as file:
        file.write(b"123456")
    assert [file.name for file in writer.finish().files] == ["a"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o444


def test_unpacking_stops_with_its_fetch_and_counts_nothing() -> None:
    fetch = Progress()
    unpacking = UncountedProgress(fetch)
    unpacking.advance(5)
    assert fetch.bytes_done == 0
    fetch.stop()
    with pytest.raises(Stopped):
        unpacking.advance(5)
