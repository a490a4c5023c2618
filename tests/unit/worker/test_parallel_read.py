"""Parallel reads: every byte in its place, whatever the number of threads, and how they fail."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.worker import parallel_read
from engine.worker.parallel_read import EndOfFile, choose_thread_count, read_ranges
from engine.worker.slot_layout import Read

SIZE = 1000
OFFSET = 7
CONTENT = os.urandom(OFFSET + SIZE)
READS = [Read(0, 300, 500), Read(300, 301, 0), Read(650, 1000, 100)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_read, "PIECE_BYTES", 16)
    monkeypatch.setattr(parallel_read, "LEAST_MEAN_BYTES", 8)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(CONTENT)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.mark.parametrize("threads", [1, 2, 4, 100])
def test_every_range_is_where_the_plan_has_it(descriptor: int, threads: int) -> None:
    memory = bytearray(900)
    read_ranges(descriptor, OFFSET, READS, memoryview(memory), threads)
    expected = bytearray(900)
    for read in READS:
        size = read.end - read.start
        expected[read.place : read.place + size] = CONTENT[OFFSET + read.start :][:size]
    assert memory == expected


def test_as_many_threads_read_as_were_asked_for(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_there = threading.Barrier(3, timeout=10)
    first = threading.local()
    real = os.preadv

    def wait_for_the_others(*arguments: object) -> int:
        if not getattr(first, "passed", False):
            first.passed = True
            all_there.wait()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "preadv", wait_for_the_others)
    read_ranges(descriptor, OFFSET, READS, memoryview(bytearray(900)), 3)
    assert not all_there.broken


@pytest.mark.parametrize("threads", [1, 4])
def test_a_file_that_is_too_short_is_said_and_no_thread_is_left(
    descriptor: int, threads: int
) -> None:
    with pytest.raises(EndOfFile):
        read_ranges(
            descriptor, OFFSET, [Read(0, SIZE + 1, 0)], memoryview(bytearray(2000)), threads
        )
    assert not [each for each in threading.enumerate() if each.name.startswith("adaptry-read")]


def test_an_error_of_the_disk_in_another_thread_is_the_caller_s(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, real = threading.current_thread(), os.preadv
    has_failed = threading.Event()

    def fail_elsewhere(*arguments: object) -> int:
        if threading.current_thread() is not caller:
            has_failed.set()
            raise OSError(5, "Input/output error")
        has_failed.wait(10)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "preadv", fail_elsewhere)
    with pytest.raises(OSError, match="Input/output error"):
        read_ranges(descriptor, OFFSET, READS, memoryview(bytearray(900)), 2)


def test_where_there_are_no_more_threads_the_caller_reads_alone(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    memory = bytearray(SIZE)
    read_ranges(descriptor, OFFSET, [Read(0, SIZE, 0)], memoryview(memory), 4)
    assert memory == CONTENT[OFFSET:]


def test_short_ranges_are_read_by_one_thread(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread.name))
    monkeypatch.setattr(threading.Thread, "join", lambda thread: None)
    memory = bytearray(400)
    short = [Read(2 * n, 2 * n + 2, 2 * n) for n in range(200)]
    read_ranges(descriptor, OFFSET, short, memoryview(memory), 4)
    assert memory == CONTENT[OFFSET : OFFSET + 400]
    assert started == []


def test_small_machines_read_with_one_thread() -> None:
    cpus = (1, 2, 7, 8, 16, 128)
    assert [choose_thread_count(each) for each in cpus] == [1, 1, 1, 2, 4, 4]
    with_device = [choose_thread_count(each, with_device=True) for each in cpus]
    assert with_device == [1, 1, 3, 4, 8, 8]


def test_all_is_there_when_it_returns_however_slow_the_other_threads_are(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still written then would be in another adapter's block."""
    caller, real = threading.current_thread(), os.preadv

    def be_slow_elsewhere(*arguments: object) -> int:
        if threading.current_thread() is not caller:
            time.sleep(0.05)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "preadv", be_slow_elsewhere)
    memory = bytearray(SIZE)
    read_ranges(descriptor, OFFSET, [Read(0, SIZE, 0)], memoryview(memory), 3)
    assert memory == CONTENT[OFFSET:]
